"""Settings of worker-xpu, in addition to those of every worker."""

from typing import Any, Self

from pydantic import Field, model_validator

from infermesh_worker.settings import WorkerSettings
from infermesh_worker_xpu.expected_kind import chosen_kind
from infermesh_worker_xpu.options import (
    AttentionChoice,
    CompileChoice,
    DeviceChoice,
    Dtype,
    GraphsChoice,
    Quantisation,
    SamplingChoice,
    parse_devices,
)

GPU_MAX_SEQUENCES = 256
GPU_MAX_BATCHED_TOKENS = 4096
"""Limits of a step that let a GPU compute enough at once; those of every worker suit processors."""
_INDICES = r"[0-9]{1,4}(\+[0-9]{1,4})*"


class WorkerXpuSettings(WorkerSettings):
    """Settings of worker-xpu, read from INFERMESH_* variables."""

    device: str = Field(
        "auto",
        pattern=rf"^(auto|xpu|cuda|cpu)(:{_INDICES})?$",
        description="Kind of device that worker-xpu runs on: auto, xpu, cuda or cpu; auto: the accelerator that torch "
        "finds, else the CPU. With the numbers of devices, as in xpu:0+1: same as INFERMESH_DEVICE_INDEX.",
    )
    device_index: str = Field(
        "0",
        pattern=f"^{_INDICES}$",
        description="Number of worker-xpu's device among those of its kind, from 0, at most 1023. Several, as in 0+1: "
        "each model that generates text is split over these devices (tensor parallelism); other models run on the "
        "first. Of a CPU they are parts of the machine.",
    )
    dtype: Dtype = Field(
        "auto", description="Precision of worker-xpu's weights; auto: bf16 if the device computes in bf16, else fp32."
    )
    kv_dtype: Dtype = Field("auto", description="Precision of worker-xpu's KV cache; auto: the weights' precision.")
    quantisation: Quantisation = Field(
        "none",
        description="Weight-only quantisation of all linear layers except the output head, by torchao; int4 on "
        "processors is our own and only makes steps of up to 6 tokens faster. The 4-bit numbers of GGUF files "
        "are used as they are, with none.",
    )
    memory_utilisation: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of an accelerator's memory that weights and KV cache may fill together, in (0, 1].",
    )
    attention: AttentionChoice = Field(
        "auto", description="Attention kernels of worker-xpu; auto: triton on accelerators that run it, else sdpa."
    )
    graphs: GraphsChoice = Field(
        "auto",
        description="Whether steps run as captured CUDA or XPU graphs; auto: if device and model allow it.",
    )
    sampling: SamplingChoice = Field(
        "auto",
        description="Where worker-xpu samples tokens. device: on the accelerator, which lets the next step be prepared "
        "while one runs; host: on the CPU; auto: device on accelerators, else host.",
    )

    compile: CompileChoice = Field(
        "auto",
        description="Whether torch.compile fuses the small kernels of each layer; auto: if steps run as graphs.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fit_steps_to_the_device(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Chooses the limits of a step that are not set, where the device is a GPU."""
        kind, _, _ = str(values.get("device", "auto")).partition(":")
        if values.get("numerics") == "exact" or chosen_kind(kind) not in ("xpu", "cuda"):
            return values
        tokens = str(values.get("max_batched_tokens", GPU_MAX_BATCHED_TOKENS))
        sequences = min(GPU_MAX_SEQUENCES, int(tokens)) if tokens.isdecimal() else GPU_MAX_SEQUENCES
        return {"max_batched_tokens": GPU_MAX_BATCHED_TOKENS, "max_sequences": sequences, **values}

    @property
    def device_kind(self) -> DeviceChoice:
        """Kind of the devices."""
        return parse_devices(self.device, self.device_index)[0]

    @property
    def device_indices(self) -> tuple[int, ...]:
        """Numbers of the devices, at least one."""
        return parse_devices(self.device, self.device_index)[1]

    @model_validator(mode="after")
    def _devices_are_clear(self) -> Self:
        parse_devices(self.device, self.device_index)
        return self

    @model_validator(mode="after")
    def _exact_keeps_fp32(self) -> Self:
        if self.numerics == "exact":
            for name in ("dtype", "kv_dtype"):
                asked = getattr(self, name)
                if asked not in ("auto", "fp32"):
                    raise ValueError(
                        f"INFERMESH_NUMERICS=exact computes in fp32: {name} must be auto or fp32, not {asked}"
                    )
            if self.sampling == "device":
                raise ValueError(
                    "INFERMESH_NUMERICS=exact samples on the host: INFERMESH_SAMPLING must be auto or host, not device"
                )
            if self.device_kind not in ("auto", "cpu"):
                raise ValueError(
                    "INFERMESH_NUMERICS=exact runs on the CPU only: "
                    f"INFERMESH_DEVICE must be auto or cpu, not {self.device_kind}"
                )
        return self
