"""Reads files that clients send as multipart/form-data."""

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.packed_body import read_message, unpack_body
from infermesh_runtime.errors import InvalidArgument

_FORM = "multipart/form-data"
_MOST_PARTS = 100
_MOST_NAME_CHARS = 255
_MOST_TYPE_CHARS = 1000


def upload_parts(message: bytes, encoding: str, rules: BodyRules) -> tuple[tuple[str, str], tuple[bytes]]:
    """Name, purpose and content of the file in a serialised HttpBody, in the form that the parsing pool returns.

    Raises InvalidArgument.
    """
    sent_type = read_message(message).content_type
    if len(sent_type) > _MOST_TYPE_CHARS:  # the parser takes long for one that is made to take long
        raise invalid("file", f"must have a Content-Type of at most {_MOST_TYPE_CHARS} characters")
    content_type, options = parse_options_header(sent_type)
    if content_type != _FORM.encode() or not (boundary := options.get(b"boundary")):
        raise invalid("file", f"must be sent as {_FORM}")
    if encoding:
        message = unpack_body(message, encoding, rules.max_bytes)
    parts = _parse(read_message(message).data, boundary)
    purpose, file = parts.get(b"purpose", _Part()), parts.get(b"file")
    if purpose.data.strip() != b"batch":
        raise invalid("purpose", "must be 'batch': files are kept for /v1/batches only", reason="UNSUPPORTED_PARAMETER")
    if file is None:
        raise invalid("file", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if not file.data:
        raise invalid("file", "must not be empty")
    name = file.options.get(b"filename", b"file").decode(errors="replace")
    return (name[:_MOST_NAME_CHARS], "batch"), (bytes(file.data),)


@dataclass(slots=True)
class _Part:
    """A part of a form."""

    options: dict[bytes, bytes] = field(default_factory=dict)
    """Those of its content-disposition."""
    data: bytearray = field(default_factory=bytearray)


class _Form:
    """Gathers the parts that a parser finds."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.ended = False
        self._name = self._value = b""

    def begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            raise invalid("file", f"must be sent in a form of at most {_MOST_PARTS} parts")
        self.parts.append(_Part())

    def name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self.parts[-1].options = parse_options_header(self._value)[1]
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def end(self) -> None:
        self.ended = True


def _parse(body: bytes, boundary: bytes) -> dict[bytes, _Part]:
    """The parts of a form, by their names. Raises InvalidArgument."""
    form = _Form()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.begin,
            "on_part_data": form.data,
            "on_header_field": form.name,
            "on_header_value": form.value,
            "on_header_end": form.header,
            "on_end": form.end,
        },
    )
    try:
        parser.write(body)
    except FormParserError as error:
        raise InvalidArgument(f"The form cannot be read: {error}", reason="INVALID_FORM") from None
    if not form.ended:
        raise InvalidArgument("The form has no end.", reason="INVALID_FORM")
    return {part.options.get(b"name", b""): part for part in form.parts}
