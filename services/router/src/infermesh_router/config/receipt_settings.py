"""Settings of the receipts that tell what became of requests."""

from pydantic import ByteSize, Field, TypeAdapter

from infermesh_runtime.settings import ServiceSettings


class ReceiptSettings(ServiceSettings):
    """How many receipts are kept."""

    receipts: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="Receipts to keep, of the last requests: who answered and why, and how long each part took. They "
        "hold nothing of prompts or outputs. 0: keep none.",
    )
    receipts_bytes: ByteSize = Field(
        TypeAdapter(ByteSize).validate_python("4MiB"),
        ge=1,
        description="Most memory that receipts may take, e.g. 4MiB. The oldest go first.",
    )
