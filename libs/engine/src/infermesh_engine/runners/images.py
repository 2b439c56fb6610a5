"""What a runner is told of the images in a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.image import PromptImage


class HeldImage:
    """An image of a sequence, with what the runner keeps of it while the sequence's prompt is computed."""

    __slots__ = ("awaited", "features", "image", "pixels", "tokens")

    def __init__(self, image: PromptImage) -> None:
        self.image = replace(image, pixels=None)
        self.tokens = sum(end - begin for begin, end in image.spans)
        """How many positions it has, and so how many features."""
        self.pixels = image.pixels
        """What the vision model reads, if the file is decoded. The runner drops it when it has the features."""
        self.features: Any = None
        """What the vision model gave, until `passed`."""
        self.awaited: set[int] = set()
        """Further choices of the request whose prompts share no block with its last position, and so see it too."""

    def passed(self, choice: int) -> None:
        """A choice of the request needs the image no longer; when none does, its features are dropped."""
        self.awaited.discard(choice)
        if not self.awaited:
            self.features = None


@dataclass(frozen=True, slots=True)
class ImageRows:
    """A run of an image's features and where they go in a batch."""

    held: HeldImage
    first: int
    """Number of the first feature."""
    tokens: NDArray[np.int64]
    """Indices into the batch's tokens, ascending; each gets the next feature."""
    choice: int = 0
    """Of the request; its runner says `passed` when it has used the image's last feature."""

    @property
    def ends_image(self) -> bool:
        """Whether the image's last feature is among them."""
        return self.first + len(self.tokens) == self.held.tokens


def runs_of(rows: Sequence[ImageRows]) -> list[tuple[int, int]]:
    """[first, last] token of each run of neighbouring tokens of one image."""
    runs = []
    for each in rows:
        cuts = np.flatnonzero(np.diff(each.tokens) != 1) + 1
        runs += [(int(run[0]), int(run[-1])) for run in np.split(each.tokens, cuts)]
    return runs
