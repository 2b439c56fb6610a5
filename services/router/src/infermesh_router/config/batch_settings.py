"""Settings of files and batches."""

from pydantic import ByteSize, Field, TypeAdapter

from infermesh_runtime.settings import ServiceSettings


class BatchSettings(ServiceSettings):
    """Where files and batches are kept, how many, and how fast batches run."""

    batches_store: str = Field(
        "",
        description="Path of the SQLite file that keeps what /v1/files and /v1/batches take; one router can use it. "
        "With several routers, only one may have a file, and Envoy must send these calls to it. "
        "`off`: keep none. Empty: batches.sqlite in INFERMESH_HOME if that is set and there is one router, else none.",
    )
    batches_bytes: ByteSize = Field(
        TypeAdapter(ByteSize).validate_python("1GiB"),
        ge=1,
        description="Most bytes of files and batches to keep, e.g. 1GiB. Beyond it, uploads are refused.",
    )
    batches_days: float = Field(
        30.0, gt=0, le=3650, description="How long to keep a file or a batch after it was made, in days."
    )
    batches_at_once: int = Field(
        4, ge=1, le=1000, description="How many requests of all batches may run at a time, from 1 to 1000."
    )
