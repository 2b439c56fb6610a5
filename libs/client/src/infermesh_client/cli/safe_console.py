"""A console that shows control characters of others' texts as signs, so that none of them reaches the terminal."""

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from infermesh_client.told import visible


class SafeConsole(Console):
    """rich writes escape codes that stand in a text as they are; models, callers and servers write such texts."""

    def __init__(self, *, file: TextIO | None = None, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, quiet=quiet, highlight=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What to write, piece by piece; rich's own codes are pieces of their own kind."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
