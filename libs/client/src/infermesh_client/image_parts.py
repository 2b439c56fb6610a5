"""Makes the parts of a message that shows images beside its text."""

from collections.abc import Sequence
from pathlib import Path

from infermesh.inference.v1 import inference_pb2

MessagePart = str | bytes | Path | inference_pb2.ContentPart
"""A text, the bytes of an image file, the path of one, or a part that `image_part` made."""


def image_part(image: Path | bytes, *, detail: str = "") -> inference_pb2.ContentPart:
    """An image file, PNG, JPEG, WebP or GIF, as a part of a message.

    `detail` says how closely to look: "low", "high" or "auto", for models that know the difference.
    Raises ValueError for a file that cannot be read.
    """
    data = image if isinstance(image, bytes) else _read(image)
    return inference_pb2.ContentPart(image=inference_pb2.Image(data=data, detail=detail))


def content_parts(parts: Sequence[MessagePart]) -> list[inference_pb2.ContentPart]:
    """The parts as the contract has them. Raises ValueError for a file that cannot be read."""
    return [_part(part) for part in parts]


def _part(part: MessagePart) -> inference_pb2.ContentPart:
    match part:
        case str():
            return inference_pb2.ContentPart(text=part)
        case bytes() | Path():
            return image_part(part)
        case _:
            return part


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read the image {path}: {error.strerror or error}") from error
