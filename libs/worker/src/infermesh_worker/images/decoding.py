"""Reads image files with Pillow: their size from the header, and their pixels, both as a viewer would show them."""

import io
from collections.abc import Callable, Mapping
from typing import TypeVar

from PIL import ExifTags, Image, UnidentifiedImageError

from infermesh_runtime.errors import InvalidArgument

T = TypeVar("T")

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_PIXELS = 64 << 20
"""Most pixels of an image. A small file can hold many more, which would take all memory."""

_TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By the orientation in the file's EXIF data."""
_SWAPS_EDGES = 5
"""Orientations from this one on exchange width and height."""
_MOST_EXIF_BYTES = 65_536
"""What a segment of a JPEG file holds. Larger ones take long to read, and no camera writes them."""


def measure(data: bytes) -> tuple[int, int]:
    """Width and height of an image, from its header. Raises InvalidArgument when it cannot be read or is too large."""
    with _reading(data) as image:
        width, height = image.size
        return (height, width) if _guarded(lambda: _orientation(image)) >= _SWAPS_EDGES else (width, height)


def decode(data: bytes) -> Image.Image:
    """The pixels of an image in RGB, of an animation its first frame. Raises InvalidArgument as `measure` does."""
    with _reading(data) as image:
        return _guarded(lambda: _pixels(image))


def _reading(data: bytes) -> Image.Image:
    image = _guarded(lambda: Image.open(io.BytesIO(data), formats=FORMATS))
    width, height = image.size
    if width < 1 or height < 1:
        raise InvalidArgument("the image has no pixels")
    if width * height > MAX_PIXELS:
        raise _too_large(f"{width} x {height} pixels")
    return image


def _guarded(read: Callable[[], T]) -> T:
    """Runs Pillow's code on a file that anybody may have sent."""
    try:
        return read()
    except InvalidArgument:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large("too many pixels") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers raise exceptions of many kinds
        if isinstance(error, UnidentifiedImageError):
            raise InvalidArgument(f"this is no image file of these formats: {', '.join(FORMATS)}") from None
        raise InvalidArgument(f"the image cannot be read: {error}") from error


def _too_large(found: str) -> InvalidArgument:
    return InvalidArgument(f"the image has {found}; at most {MAX_PIXELS} pixels are accepted")


def _pixels(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    pixels = image.convert("RGB")
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """The one that the header has. `Image.getexif` would decode a whole PNG file to look for it behind the pixels."""
    written = image.info.get("exif")
    if not isinstance(written, bytes) or len(written) > _MOST_EXIF_BYTES:
        return 1
    exif = Image.Exif()
    exif.load(written)
    found = exif.get(ExifTags.Base.Orientation, 1)
    return found if isinstance(found, int) else 1
