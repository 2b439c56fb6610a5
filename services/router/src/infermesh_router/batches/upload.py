"""Reads files that clients send as multipart/form-data."""

from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.packed_body import read_body
from infermesh_router.requests.form import FORM, Part, content_type_of, read_form
from infermesh_router.requests.unpacking import unpack

_MOST_NAME_CHARS = 255


def upload_parts(message: bytes, encoding: str, rules: BodyRules) -> tuple[tuple[str, str], tuple[bytes]]:
    """Name, purpose and content of the file in a serialised HttpBody, in the form that the parsing pool returns.

    Raises InvalidArgument.
    """
    content_type = content_type_of(message)
    body = read_body(message)
    if encoding:
        body = unpack(body, encoding, max_bytes=rules.max_bytes)
    form = read_form(body, content_type)
    del body  # so that the file is in memory no more often than `ARRIVING_COPIES` counts
    if form is None:
        raise invalid("file", f"must be sent as {FORM}")
    parts = {part.name: part for part in form}
    purpose, file = parts.get("purpose", Part()), parts.get("file")
    if purpose.data.strip() != b"batch":
        raise invalid("purpose", "must be 'batch': files are kept for /v1/batches only", reason="UNSUPPORTED_PARAMETER")
    if file is None:
        raise invalid("file", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if not file.data:
        raise invalid("file", "must not be empty")
    name = file.filename or "file"
    return (name[:_MOST_NAME_CHARS], "batch"), (bytes(file.data),)
