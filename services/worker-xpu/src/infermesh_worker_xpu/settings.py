"""Settings of worker-xpu, in addition to those of every worker."""

from typing import Self

from pydantic import Field, model_validator

from infermesh_worker.settings import WorkerSettings
from infermesh_worker_xpu.options import (
    AttentionChoice,
    CompileChoice,
    DeviceChoice,
    Dtype,
    GraphsChoice,
    Quantisation,
    SamplingChoice,
)


class WorkerXpuSettings(WorkerSettings):
    """Settings of worker-xpu, read from INFERMESH_* variables."""

    device: DeviceChoice = Field(
        "auto",
        description="Kind of device that worker-xpu runs on; auto: the accelerator that torch finds, else the CPU.",
    )
    device_index: int = Field(
        0, ge=0, le=1023, description="Number of worker-xpu's device among those of its kind, from 0."
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
            if self.device not in ("auto", "cpu"):
                raise ValueError(
                    "INFERMESH_NUMERICS=exact runs on the CPU only: "
                    f"INFERMESH_DEVICE must be auto or cpu, not {self.device}"
                )
        return self
