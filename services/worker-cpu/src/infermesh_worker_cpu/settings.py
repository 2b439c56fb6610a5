"""The settings of worker-cpu, in addition to those of every worker."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infermesh_worker.device.machine_part import find_part
from infermesh_worker.settings import WorkerSettings


def _check_part(value: str) -> str:
    if value:
        find_part(value)
    return value


class WorkerCpuSettings(WorkerSettings):
    """Settings of worker-cpu."""

    kv_cache_dtype: Literal["u8", "f16", "f32"] = Field(
        "u8",
        description="Precision of the KV cache with numerics fast: u8, f16 (bf16 on processors that compute in it) or "
        "f32 (the model then computes in f32 too). Numerics exact always uses f32. Models that cap attention scores "
        "(Gemma 2) keep bf16 instead of u8 and f16.",
    )

    cpu_part: Annotated[str, AfterValidator(_check_part)] = Field(
        "",
        description="The part of this machine that the worker runs on, as INDEX/COUNT: one of COUNT workers, from 0. "
        "With COUNT NUMA nodes or more it is the node of that index, threads and memory; else nodes are split between "
        "workers, by cores and an equal share of the memory. Empty: all processors.",
    )

    @model_validator(mode="after")
    def _exact_keeps_f32(self) -> Self:
        asked = self.kv_cache_dtype if "kv_cache_dtype" in self.model_fields_set else "f32"
        if self.numerics == "exact" and asked != "f32":
            raise ValueError(
                f"INFERMESH_NUMERICS=exact keeps its KV cache in f32: set INFERMESH_KV_CACHE_DTYPE to f32, not {asked}"
            )
        return self
