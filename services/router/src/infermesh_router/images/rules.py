"""What images a request may have, and the error that names one."""

from dataclasses import dataclass

from infermesh_runtime.errors import InvalidArgument

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What a request may have. Every bound is for one request."""

    most: int = 20
    """Most images."""
    max_bytes: int = 20 * _MIB
    """Most bytes of one image."""
    urls: bool = False
    """Whether images may be named by http(s) URLs, which the router then fetches."""


def bad_image(path: str, description: str, *, reason: str = "INVALID_IMAGE") -> InvalidArgument:
    """The error for an image. `path` is where it is in the client's body."""
    return InvalidArgument(f"'{path}' {description}.", reason=reason, fields={path: description})
