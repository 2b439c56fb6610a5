"""An image in a prompt: its file, and the positions whose embeddings the model replaces by what it sees."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptImage:
    """One image. The runner makes as many features of it as its spans have positions."""

    data: bytes
    """An image file."""
    digest: bytes
    """Equal for images of which the model sees the same, and for no others."""
    spans: tuple[tuple[int, int], ...]
    """[begin, end) of positions in the prompt, ascending, that get the features in their order."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of its features, for models whose rotary positions follow them; they have one span."""
    closely: bool = True
    """Whether a model that cuts large images into tiles looks at these, or only at the image as a whole."""
    field: str = ""
    """The part of the request that it came in, for errors."""
    pixels: Any = None
    """What the vision model reads; None until an engine process has decoded the file."""
