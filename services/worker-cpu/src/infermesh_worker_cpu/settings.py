"""Owns the settings of worker-cpu beyond those of every worker."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infermesh_worker.settings import WorkerSettings


class WorkerCpuSettings(WorkerSettings):
    """What worker-cpu takes."""

    kv_cache_dtype: Literal["u8", "f16", "f32"] = Field(
        "u8",
        description="Precision of the KV cache under numerics fast (f16: bf16 where the processor computes in it; "
        "f32: computes in f32 too); exact always keeps f32.",
    )

    @model_validator(mode="after")
    def _exact_keeps_f32(self) -> Self:
        asked = self.kv_cache_dtype if "kv_cache_dtype" in self.model_fields_set else "f32"
        if self.numerics == "exact" and asked != "f32":
            raise ValueError(f"INFERMESH_NUMERICS=exact keeps its KV cache in f32, not in {asked}")
        return self
