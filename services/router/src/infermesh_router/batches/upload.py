"""Reads files that clients send as multipart/form-data."""

from email import policy
from email.message import Message
from email.parser import BytesParser

from google.api.httpbody_pb2 import HttpBody

from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.packed_body import unpack_body

_MULTIPART = "multipart/form-data"
_MOST_PARTS = 100


def upload_parts(message: bytes, encoding: str, rules: BodyRules) -> tuple[tuple[str, str], tuple[bytes]]:
    """Name, purpose and content of the file in a serialised HttpBody, in the form that the parsing pool returns.

    Raises InvalidArgument.
    """
    sent = HttpBody.FromString(message)
    if not sent.content_type.lower().startswith(_MULTIPART):
        raise invalid("file", f"must be sent as {_MULTIPART}")
    body = sent.data
    if encoding:
        body = HttpBody.FromString(unpack_body(message, encoding, rules.max_bytes)).data
    if body.count(b"\n--") > _MOST_PARTS and body.count(b"Content-Disposition") > _MOST_PARTS:
        raise invalid("file", f"must be one of at most {_MOST_PARTS} parts")
    head = f"Content-Type: {sent.content_type}\r\n\r\n".encode()
    parts = _parts(BytesParser(policy=policy.compat32).parsebytes(head + body))
    if (purpose := _text(parts.get("purpose"))) != "batch":
        raise invalid("purpose", "must be 'batch': files are kept for /v1/batches only", reason="UNSUPPORTED_PARAMETER")
    if (file := parts.get("file")) is None:
        raise invalid("file", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if not (content := _content(file)):
        raise invalid("file", "must not be empty")
    return ((file.get_filename() or "file")[:255], purpose), (content,)


def _parts(message: Message) -> dict[str, Message]:
    """The parts of a form, by name."""
    held = message.get_payload() if message.is_multipart() else []
    parts = [part for part in held if isinstance(part, Message)] if isinstance(held, list) else []
    return {str(part.get_param("name", "", header="content-disposition")): part for part in parts}


def _text(part: Message | None) -> str:
    return "" if part is None else _content(part).decode(errors="replace").strip()


def _content(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""
