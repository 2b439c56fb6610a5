"""An image as a vision model reads it."""

from typing import Any


class PreparedImage:
    """The tensors of one image. Somebody who has a weak reference to it learns when nobody needs them any more."""

    __slots__ = ("__weakref__", "size_bytes", "tensors")

    def __init__(self, tensors: dict[str, Any], size_bytes: int) -> None:
        """`tensors`: by the names under which the vision model takes them."""
        self.tensors = tensors
        self.size_bytes = size_bytes
