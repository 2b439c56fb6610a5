"""Where the images of a prompt are: what blocks, chunks of a prefill and rotary positions must know of them."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.runners.images import HeldImage, ImageRows


class PromptImages:
    """The images of one prompt, in order. All choices of a request share them."""

    def __init__(self, images: Sequence[PromptImage]) -> None:
        """There is at least one; every image has at least one position."""
        self.held = [HeldImage(image) for image in images]
        self._positions = [np.concatenate([np.arange(begin, end) for begin, end in image.spans]) for image in images]
        self._spans = [span for image in images for span in image.spans]

    def key(self, begin: int, end: int) -> bytes:
        """What distinguishes positions [begin, end) from others with equal tokens: the images that they show."""
        shown = (
            held.image.digest
            for held, positions in zip(self.held, self._positions, strict=True)
            if positions[0] < end and positions[-1] >= begin
        )
        return b"".join(shown)

    def await_choice(self, begin: int, choice: int) -> None:
        """Keeps what is seen from position `begin` on until this choice has passed it too."""
        for held, positions in zip(self.held, self._positions, strict=True):
            if positions[-1] >= begin:
                held.awaited.add(choice)

    def skip(self, end: int, choice: int) -> None:
        """Forgets the images that a choice does not see because all before position `end` was found in the cache.

        If it is preempted, and the cache has lost them by then, they are prepared again.
        """
        for held, positions in zip(self.held, self._positions, strict=True):
            if positions[-1] < end:
                held.passed(choice)
                if not held.awaited:
                    held.pixels = None

    def rows(self, begin: int, end: int, at: int, choice: int = 0) -> list[ImageRows]:
        """The features of positions [begin, end), whose tokens are in a batch from index `at` on, for a choice."""
        rows = []
        for held, positions in zip(self.held, self._positions, strict=True):
            first, last = np.searchsorted(positions, (begin, end))
            if first < last:
                rows.append(ImageRows(held, int(first), positions[first:last] - begin + at, choice))
        return rows

    def whole(self, begin: int, tokens: int) -> int:
        """How many tokens from `begin` on to compute together instead of `tokens`, so that no span is cut.

        Fewer, unless these would be none.
        """
        end = begin + tokens
        for first, last in self._spans:
            if first < end < last:
                return first - begin if first > begin else last - begin
        return tokens

    def rope(self, begin: int, end: int) -> NDArray[np.int64]:
        """[3, end - begin]: time, row and column that the rotary positions of [begin, end) stand for.

        The features of an image have one time, and its rows and columns count from there. The text after it goes on
        from the largest number.
        """
        known = self._rope.shape[1]
        beyond = np.arange(max(begin, known), max(end, known)) + self.shift
        return np.concatenate([self._rope[:, begin:end], np.broadcast_to(beyond, (3, len(beyond)))], axis=1)

    @cached_property
    def shift(self) -> int:
        """What is added to positions after the last image to get their rotary positions, in all directions."""
        shift: int = self._rope[0, -1].item() + 1 - self._rope.shape[1]
        return shift

    @cached_property
    def _rope(self) -> NDArray[np.int64]:
        """Those up to one position after the last image."""
        parts: list[NDArray[np.int64]] = []
        done, next_ = 0, 0
        for held, positions in zip(self.held, self._positions, strict=True):
            before = int(positions[0]) - done
            parts.append(np.broadcast_to(np.arange(next_, next_ + before), (3, before)))
            next_ += before
            rows, columns = held.image.grid
            places = np.indices((1, rows, columns)).reshape(3, -1)
            parts.append(places + next_)
            next_ += max(rows, columns)
            done = int(positions[-1]) + 1
        parts.append(np.full((3, 1), next_))
        return np.concatenate(parts, axis=1)
