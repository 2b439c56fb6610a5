"""Settings of shared memory, through which clients on this machine may hand over tensors."""

from pydantic import Field

from infermesh_runtime.settings import ServiceSettings


class SharedMemorySettings(ServiceSettings):
    """Who may use shared memory, and for how long."""

    shared_memory: bool = Field(
        False,
        description="Whether clients on this machine may register POSIX shared memory (/dev/shm) for tensors of the "
        "Open Inference Protocol. They can then have models read and write any object there that belongs to the "
        "router's user.",
    )
    shared_memory_lease_s: float = Field(
        3600.0,
        ge=1,
        le=7 * 24 * 3600,
        description="How long a region of shared memory may be unused before its registration ends, in seconds.",
    )
