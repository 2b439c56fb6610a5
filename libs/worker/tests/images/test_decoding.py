"""Image files of the accepted formats are read as a viewer shows them; anything else is refused in words."""

import contextlib
import io
import struct
import zlib

import pytest
from PIL import ExifTags, Image

from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.images.decoding import FORMATS, MAX_PIXELS, decode, measure

RED, BLUE = (250, 5, 5), (5, 5, 250)


def picture() -> Image.Image:
    """Red on the left, blue on the right: 12 x 8."""
    image = Image.new("RGB", (12, 8), RED)
    image.paste(BLUE, (6, 0, 12, 8))
    return image


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def near(colour: object, wanted: tuple[int, int, int]) -> bool:
    return isinstance(colour, tuple) and all(abs(a - b) < 60 for a, b in zip(colour, wanted, strict=True))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_formats_and_modes(kind: str, mode: str) -> None:
    if kind == "JPEG" and mode in {"RGBA", "P"}:
        return
    data = file(picture().convert(mode), kind)
    assert measure(data) == (12, 8)
    seen = decode(data)
    assert (seen.mode, seen.size) == ("RGB", (12, 8))
    if mode != "L":
        assert near(seen.getpixel((1, 4)), RED)
        assert near(seen.getpixel((10, 4)), BLUE)


def test_an_animation_shows_its_first_frame() -> None:
    data = file(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (12, 8), (0, 250, 0))])
    assert near(decode(data).getpixel((1, 4)), RED)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(
    ("orientation", "size", "red"),
    [(1, (12, 8), (1, 4)), (3, (12, 8), (10, 4)), (6, (8, 12), (4, 1)), (8, (8, 12), (4, 10))],
)
def test_a_photograph_is_turned_as_its_camera_says(
    kind: str, orientation: int, size: tuple[int, int], red: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = file(picture(), kind, exif=exif)
    assert measure(data) == size
    assert decode(data).size == size
    assert near(decode(data).getpixel(red), RED)


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8193, 10_000, 20_000, 1 << 30])
def test_a_bomb_is_refused_from_its_header(side: int) -> None:
    for read in (measure, decode):
        with pytest.raises(InvalidArgument, match=f"at most {MAX_PIXELS} pixels"):
            read(bomb(side, side))


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"<svg/>", b"%PDF-1.7", file(picture(), "BMP"), file(picture(), "TIFF")]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    for read in (measure, decode):
        with pytest.raises(InvalidArgument, match="no image file of these formats: PNG, JPEG, WEBP, GIF"):
            read(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_refused_or_read(kind: str) -> None:
    whole = file(picture(), kind)
    with pytest.raises(InvalidArgument, match="image"):
        decode(whole[: len(whole) // 2])
    for place in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[place] ^= 0x55
        for read in (measure, decode):
            with contextlib.suppress(InvalidArgument):  # nothing else
                read(bytes(broken))


def test_exif_data_that_is_too_large_is_not_read() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.ImageDescription] = "x" * 70_000
    assert measure(file(picture(), "PNG", exif=exif)) == picture().size
