"""Shows what the command waits for, and for how long."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress, ProgressColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from infermesh_client.cli.output.safe_console import SafeConsole


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """The line while it is shown; off a terminal there is none."""

    _text: str
    _progress: Progress | None = None
    _task: TaskID | None = None

    def stop(self) -> None:
        """Takes the line away."""
        if self._progress is not None:
            self._progress.stop()

    def add(self, detail: str) -> None:
        """Puts more behind its text, in place of what was put there before."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=f"{self._text} {detail}")


def waiting_columns() -> Sequence[ProgressColumn]:
    """A spinner, the text, wrapped at its words, and the time passed."""
    text = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
    return SpinnerColumn(), text, TimeElapsedColumn()


@contextmanager
def waiting_line(console: SafeConsole, text: str, *, loading: bool = False) -> Iterator[WaitingLine]:
    """Shows `text` with the time passed while the block runs, or until the line is stopped.

    Off a terminal it prints one line, and only for a load, which may take minutes.
    """
    if not console.is_terminal:
        if loading:
            console.say(text)
        yield WaitingLine(text)
        return
    progress = Progress(*waiting_columns(), console=console, transient=True)
    task = progress.add_task(text, total=None)
    with progress:
        yield WaitingLine(text, progress, task)
