"""Settings of the store of responses."""

from pydantic import ByteSize, Field, TypeAdapter

from infermesh_runtime.settings import ServiceSettings

OFF = "off"


class ResponseSettings(ServiceSettings):
    """Which responses of /v1/responses are kept, where, and for how long."""

    responses_store: str = Field(
        "",
        description="Path of the SQLite file that keeps responses of /v1/responses for `previous_response_id` and "
        "retrieval. Routers on one machine may share it. `off`: keep none. Empty: responses.sqlite in INFERMESH_HOME "
        "if that is set and there is one router, else keep none.",
    )
    responses_store_bytes: ByteSize = Field(
        TypeAdapter(ByteSize).validate_python("256MiB"),
        ge=1,
        description="Most bytes of responses and their input to keep, e.g. 1GiB. Those used least recently go first.",
    )
    responses_store_rows: int = Field(
        10_000, ge=1, le=10_000_000, description="Most responses to keep. Those used least recently go first."
    )
    responses_store_days: float = Field(
        30.0, gt=0, le=3650, description="How long to keep a response after it was made, in days."
    )
