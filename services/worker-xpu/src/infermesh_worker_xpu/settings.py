"""Owns the settings of worker-xpu beyond those of every worker."""

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
    """What worker-xpu takes."""

    device: DeviceChoice = Field(
        "auto", description="Kind of device to run on; auto: the accelerator that torch finds, else the processors."
    )
    device_index: int = Field(0, ge=0, le=1023, description="Which of the devices of that kind, counted from 0.")
    dtype: Dtype = Field(
        "auto", description="Precision of the weights; auto: bf16 where the device computes in it, else fp32."
    )
    kv_dtype: Dtype = Field("auto", description="Precision of the torch worker's KV cache; auto: that of the weights.")
    quantisation: Quantisation = Field(
        "none", description="Weight-only quantisation by torchao, of every linear layer but the head."
    )
    memory_utilisation: float = Field(
        0.9, gt=0, le=1, description="Share of an accelerator's memory to use, for weights and KV cache together."
    )
    attention: AttentionChoice = Field(
        "auto", description="Attention kernels; auto: triton on accelerators, sdpa on processors."
    )
    graphs: GraphsChoice = Field(
        "auto", description="Whether decode steps are captured as CUDA or XPU graphs; auto: where device and model can."
    )
    sampling: SamplingChoice = Field(
        "auto",
        description="Where tokens are chosen; device: where the logits are, and each step is prepared while another "
        "runs; auto: device on accelerators, host on processors.",
    )

    compile: CompileChoice = Field(
        "auto",
        description="Whether torch.compile fuses a layer's small kernels; auto: where decode steps are captured.",
    )

    @model_validator(mode="after")
    def _exact_keeps_fp32(self) -> Self:
        if self.numerics == "exact":
            for name in ("dtype", "kv_dtype"):
                asked = getattr(self, name)
                if asked not in ("auto", "fp32"):
                    raise ValueError(f"INFERMESH_NUMERICS=exact computes in fp32, not with {name} {asked}")
            if self.sampling == "device":
                raise ValueError("INFERMESH_NUMERICS=exact samples on the host, not with INFERMESH_SAMPLING=device")
            if self.device not in ("auto", "cpu"):
                raise ValueError(f"INFERMESH_NUMERICS=exact is for INFERMESH_DEVICE=cpu, not {self.device}")
        return self
