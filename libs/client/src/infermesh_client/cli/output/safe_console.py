"""A console that shows control characters of others' texts as signs, so that none of them reaches the terminal."""

import os
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from infermesh_client.told import visible

_DUMB = {"dumb", "unknown"}


class SafeConsole(Console):
    """rich writes escape codes that stand in a text as they are; models, callers and servers write such texts."""

    def __init__(self, *, file: TextIO | None = None, stderr: bool = False, quiet: bool = False) -> None:
        super().__init__(file=file, stderr=stderr, quiet=quiet, highlight=False)

    @property
    def is_terminal(self) -> bool:
        """Whether lines can be drawn anew in place. rich shows what moves on no dumb terminal, not even at its end."""
        return super().is_terminal and not is_dumb()

    def say(self, text: str, style: str = "") -> None:
        """Prints a message as it is: on a terminal wrapped at its words, elsewhere not wrapped, as scripts read it."""
        self.print(Text(text, style), soft_wrap=not self.is_terminal)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What to write, piece by piece; rich's own codes are pieces of their own kind."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def is_dumb() -> bool:
    """Whether the terminal takes no codes, as that of an editor."""
    return os.environ.get("TERM", "").lower() in _DUMB
