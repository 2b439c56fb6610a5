"""Reads bodies that clients send as multipart/form-data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import fields

FORM = "multipart/form-data"
INVALID_FORM = "INVALID_FORM"
_MOST_PARTS = 100
_MOST_TYPE_CHARS = 1000
_MOST_HEADER_BYTES = 16 * 1024
"""Of the headers of a part."""
_CONTENT_TYPE = 1
"""Number of the field `content_type` of an HttpBody."""
_MOST_FIELDS = 16
"""Of an HttpBody as Envoy makes it, and some more."""


@dataclass(slots=True)
class Part:
    """A part of a form."""

    options: dict[bytes, bytes] = field(default_factory=dict)
    """Those of its content-disposition."""
    data: bytearray = field(default_factory=bytearray)

    @property
    def name(self) -> str:
        """The name of its field."""
        return self.options.get(b"name", b"").decode(errors="replace")

    @property
    def filename(self) -> str | None:
        """The name of its file; None: it is no file."""
        found = self.options.get(b"filename")
        return None if found is None else found.decode(errors="replace")


def content_type_of(message: bytes) -> str:
    """The content type of a serialised HttpBody, whose data is not copied. Raises InvalidArgument."""
    try:
        all_fields = fields(memoryview(message), _MOST_FIELDS)
        found = [bytes(content) for number, _, _, content in all_fields if number == _CONTENT_TYPE]
    except (ValueError, IndexError) as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error
    return found[-1].decode("latin-1") if found else ""


def read_form(body: bytes, content_type: str) -> Sequence[Part] | None:
    """The parts of a form, in their order; None if it is sent as something else. Raises InvalidArgument."""
    if len(content_type) > _MOST_TYPE_CHARS:  # the parser takes long for one that is made to take long
        raise InvalidArgument(
            f"The form's Content-Type must have at most {_MOST_TYPE_CHARS} characters.", reason=INVALID_FORM
        )
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind != FORM.encode() or not (boundary := options.get(b"boundary")):
        return None
    form = _Form()
    try:
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
        parser.write(body)
    except FormParserError as error:
        raise InvalidArgument(f"The form cannot be read: {error}", reason=INVALID_FORM) from None
    if not form.ended:
        raise InvalidArgument("The form has no end.", reason=INVALID_FORM)
    return form.parts


class _Form:
    """Gathers the parts that a parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._name = self._value = b""

    def begin(self) -> None:
        if len(self.parts) == _MOST_PARTS:
            problem = f"must be sent in a form of at most {_MOST_PARTS} parts"
            raise InvalidArgument(f"'file' {problem}.", reason=INVALID_FORM, fields={"file": problem})
        self.parts.append(Part())

    def name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check()

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check()

    def header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self.parts[-1].options = parse_options_header(self._value)[1]
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += memoryview(data)[start:end]

    def end(self) -> None:
        self.ended = True

    def _check(self) -> None:
        if len(self._name) + len(self._value) > _MOST_HEADER_BYTES:
            raise InvalidArgument(
                f"A header of a part of the form has more than {_MOST_HEADER_BYTES} bytes.", reason=INVALID_FORM
            )
