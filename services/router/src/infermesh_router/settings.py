"""Owns what can be set on a router. Knows nothing of how it is used."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infermesh_router.target import Target, parse_target
from infermesh_runtime.settings import CommaList, ServiceSettings


def _check_workers(workers: tuple[str, ...]) -> tuple[str, ...]:
    for worker in workers:
        parse_target(worker)
    return workers


class RouterSettings(ServiceSettings):
    """The settings of a router, from environment variables INFERMESH_*."""

    workers: Annotated[CommaList, AfterValidator(_check_workers)] = Field(
        (),
        description="Endpoints to dispatch to, comma list of host:port or dns:///name:port (every address of a name).",
    )
    workers_file: str = Field(
        "",
        description="File with more of them, one a line, # begins a comment; read again when it changes. Empty: none.",
    )
    resolve_interval_s: float = Field(
        5.0, gt=0, le=3600, description="Time between two resolutions of the dns:/// names, in seconds."
    )
    connect_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="Longest wait for an endpoint's first health report before trying anew, in seconds.",
    )
    reconnect_max_s: float = Field(
        1.0, gt=0, le=60, description="Longest pause between two tries to reach an endpoint, in seconds."
    )
    keepalive_s: float = Field(
        10.0, ge=6, le=3600, description="Silence on a connection after which it is probed, in seconds."
    )
    keepalive_timeout_s: float = Field(
        5.0, ge=0.1, le=600, description="Longest wait for a probe's answer; then the endpoint is lost, in seconds."
    )
    attempts: int = Field(
        3, ge=1, le=100, description="Endpoints to try for a request that fails before its first token."
    )
    unknown_fields: Literal["reject", "ignore"] = Field(
        "reject",
        description="What to do with a field of a REST body that is not known: reject, or ignore and name it in the "
        "response header x-infermesh-ignored-fields.",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest body of a REST request, in bytes."
    )

    def targets(self) -> tuple[Target, ...]:
        """The workers, parsed."""
        return tuple(parse_target(worker) for worker in self.workers)
