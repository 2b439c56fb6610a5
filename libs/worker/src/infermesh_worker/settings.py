"""Owns the settings that every worker has. Knows no device: services add theirs by subclassing."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from infermesh_runtime.settings import CommaList, OptionalHostPort, ServiceSettings, split_host_port


class WorkerSettings(ServiceSettings):
    """What every worker takes."""

    home: Path = Field(Path("~/.infermesh"), description="Folder of everything infermesh keeps on this machine.")
    models: Path | None = Field(None, description="Folder of the model folders; default models under INFERMESH_HOME.")
    model: str = Field(
        "",
        description="Name of the model that is loaded first and stays; may be left out when there is at most one. "
        "none: models are loaded only when a router asks.",
    )
    memory_bytes: ByteSize | None = Field(
        None, ge=1, description="Memory that all models together may take, as in 16GiB; unset: the device's, less 10 %."
    )
    keep_alive_s: float = Field(
        300.0,
        ge=0,
        le=1e9,
        allow_inf_nan=False,
        description="Time after its last request when a model is unloaded, in seconds; 0: never. "
        "INFERMESH_MODEL's always stays.",
    )
    routers: CommaList = Field(
        (),
        description="Routers to register with: host:port, or dns:///name:port for each address of the name.",
    )
    advertise: OptionalHostPort = Field(
        "",
        description="Where those routers reach this worker, host:port; port 0 stands for the one it listens on. "
        "Default: where it listens, and for a wildcard the address that its calls come from.",
    )
    max_sequences: int = Field(64, ge=1, le=4096, description="Most sequences in one batch.")
    max_waiting: int = Field(
        64, ge=0, le=1 << 20, description="Most sequences that wait beside those that run; one more is refused."
    )
    max_batched_tokens: int = Field(512, ge=1, le=1 << 20, description="Most tokens in one engine step.")
    prefix_caching: bool = Field(True, description="Whether prompts reuse the KV of a common beginning.")
    engine_timeout_s: float = Field(
        120.0,
        ge=1,
        le=86400,
        description="Longest silence of the engine process, and so longest step, in seconds; then it is restarted.",
    )
    numerics: Literal["fast", "exact"] = Field(
        "fast",
        description="fast: the device's quickest path; exact: equal tokens however a sequence is batched or resumed.",
    )
    threads: int = Field(0, ge=0, le=4096, description="Processor threads of the engine; 0: chosen from the machine.")
    kv_cache_bytes: ByteSize | None = Field(
        None, ge=1, description="Memory of each model's KV cache, as in 2GiB; unset: chosen from the machine's memory."
    )

    @field_validator("routers")
    @classmethod
    def _check_routers(cls, routers: tuple[str, ...]) -> tuple[str, ...]:
        for router in routers:
            split_host_port(router.removeprefix("dns:///"))
        return routers

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        if self.max_sequences > self.max_batched_tokens:
            raise ValueError("INFERMESH_MAX_SEQUENCES must not exceed INFERMESH_MAX_BATCHED_TOKENS")
        return self

    @property
    def models_root(self) -> Path:
        """Folder of the model folders."""
        return (self.models or self.home / "models").expanduser()
