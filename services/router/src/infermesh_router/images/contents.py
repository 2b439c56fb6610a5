"""Turns what bodies say an image is into the bytes of an image file. Workers decode the file; nobody here does."""

import binascii

from infermesh_router.images.rules import ImageRules, bad_image
from infermesh_runtime.errors import InvalidArgument

_SCHEME, _MAX_HEAD = "data:", 256
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_RIFF, _WEBP = b"RIFF", b"WEBP"


def is_data_url(url: str) -> bool:
    """Whether the URL contains its bytes, well or badly."""
    return url[: len(_SCHEME)].lower() == _SCHEME


def read_data_url(url: str, path: str, rules: ImageRules) -> bytes:
    """The bytes of an image in a data: URL. Raises InvalidArgument."""
    head, comma, _ = url[:_MAX_HEAD].partition(",")
    media_type, *parameters = head[len(_SCHEME) :].split(";")
    if not comma or not parameters or parameters[-1].strip().lower() != "base64":
        raise bad_image(path, "must be a data: URL in base64, as in data:image/png;base64,...")
    if not media_type.strip().lower().startswith("image/"):
        raise bad_image(path, "must be a data: URL of an image: its type must begin with 'image/'")
    return read_base64(url[len(head) + 1 :], path, rules)


def read_base64(text: str, path: str, rules: ImageRules) -> bytes:
    """The bytes of an image in base64. Raises InvalidArgument."""
    if len(text) // 4 * 3 > rules.max_bytes + 3:
        raise too_large(path, rules.max_bytes)
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # also for characters outside ASCII
        data = _read_leniently(text, path, error)
    return check_image(data, path, rules)


def check_image(data: bytes, path: str, rules: ImageRules) -> bytes:
    """The same bytes. Raises InvalidArgument if they are too many, or do not begin as a known kind of image does."""
    if len(data) > rules.max_bytes:
        raise too_large(path, rules.max_bytes)
    if not data.startswith(_MAGIC) and (data[:4], data[8:12]) != (_RIFF, _WEBP):
        raise bad_image(path, "must be an image: a PNG, JPEG, WebP or GIF file")
    return data


def too_large(path: str, max_bytes: int) -> InvalidArgument:
    """The error for an image of too many bytes."""
    return bad_image(path, f"has more than {max_bytes} bytes ({max_bytes / (1 << 20):g} MiB), the most of an image")


def _read_leniently(text: str, path: str, error: ValueError) -> bytes:
    """The bytes of base64 in lines, or without the padding at its end."""
    joined = "".join(text.split())
    try:
        return binascii.a2b_base64(joined + "=" * (-len(joined) % 4), strict_mode=True)
    except ValueError:
        raise bad_image(path, f"is not valid base64 ({str(error)[:80].rstrip('.')})") from None
