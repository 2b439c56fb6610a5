"""Shows rows as tables where the terminal is wide enough for them, else as a few labelled lines for each row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

_INDENT = 2
_UNLIMITED = 10_000
"""Wider than any terminal, in characters."""
Cell = str | Text


@dataclass(frozen=True, slots=True)
class Block:
    """One row as lines: what it is about, and what there is to say about it."""

    heading: Text
    lines: Sequence[tuple[str, Cell]]
    """Labels and what belongs to each. A line that says nothing is left out."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.heading
        grid = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 2, 0, 0))
        for label, cell in self.lines:
            if cell:
                grid.add_row(label, as_text(cell))
        yield Padding(grid, (0, 0, 0, _INDENT))


@dataclass(frozen=True, slots=True)
class Folding:
    """Tables that become blocks on a terminal where one of their cells would be wrapped."""

    tables: Sequence[Table]
    blocks: Sequence[Block]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(max_width=_UNLIMITED)
        widths = [Measurement.get(console, wide, table).maximum for table in self.tables]
        yield from self.tables if max(widths) <= options.max_width else self.blocks


@dataclass(frozen=True, slots=True)
class Cropped:
    """A view that is drawn anew in place, which must fit the terminal.

    Where it does not, the short view takes its place, and says how many of its lines do not fit either.
    """

    view: RenderableType
    short: RenderableType
    hint: str
    """How to see all of it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = console.height - 1  # the cursor's line
        lines = self._lines(self.view, console, options)
        if len(lines) > room:
            lines = self._lines(self.short, console, options)
        hidden = len(lines) - (room - 1) if len(lines) > room else 0
        for line in lines[: len(lines) - hidden]:
            yield from line
            yield Segment.line()
        if hidden:
            yield Text(f"{hidden} more lines; {self.hint}", style="yellow")

    @staticmethod
    def _lines(view: RenderableType, console: Console, options: ConsoleOptions) -> list[list[Segment]]:
        return console.render_lines(view, options.update(height=None), pad=False)


def new_table(*columns: str | Column) -> Table:
    """An empty table with a line under its head and no other."""
    return Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def as_text(cell: Cell) -> Text:
    """The cell as it is: rich would read the brackets of a plain string as markup."""
    return Text(cell) if isinstance(cell, str) else cell


def joined(parts: Iterable[str], separator: str = " · ") -> str:
    """The parts that are not empty, in one line."""
    return separator.join(filter(None, parts))


def size_text(size_bytes: int) -> str:
    """A size in MB or GB; "-" if it is not known."""
    if not size_bytes:
        return "-"
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"
