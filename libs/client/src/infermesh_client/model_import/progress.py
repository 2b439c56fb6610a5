"""Shows the progress of an import: bars on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column


class ProgressStep(Protocol):
    """One step of an import, while it is running."""

    def set(self, done: float, total: float | None = None) -> None:
        """Sets how much is done, in the step's unit, and the total once it is known."""
        ...

    def advance(self, amount: float) -> None:
        """Adds to what is done, in the step's unit."""
        ...


@dataclass(slots=True)
class _BarStep:
    progress: Progress
    task: TaskID

    def set(self, done: float, total: float | None = None) -> None:
        self.progress.update(self.task, completed=done, total=total)

    def advance(self, amount: float) -> None:
        self.progress.advance(self.task, amount)

    def finish(self) -> None:
        """Fills the bar: a step may be done before all that it could have done, or without telling how far it is."""
        task = self.progress.tasks[self.task]
        self.progress.update(self.task, completed=task.completed if task.total is None else task.total)


class _SilentStep:
    def set(self, done: float, total: float | None = None) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass


class ProgressView:
    """Shows the steps of an import on a console, one after another."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def bytes_step(self, title: str, total_bytes: int | None) -> Iterator[ProgressStep]:
        """A step counted in bytes; `total_bytes` is None while the total is not known."""
        size = f" ({total_bytes / 1e6:.1f} MB)" if total_bytes is not None else ""
        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with self._step(title, size, total_bytes, *columns) as step:
            yield step

    @contextmanager
    def fraction_step(self, title: str) -> Iterator[ProgressStep]:
        """A step whose progress is a fraction in [0, 1]."""
        with self._step(title, "", 1.0, TaskProgressColumn(), TimeElapsedColumn()) as step:
            yield step

    @contextmanager
    def _step(self, title: str, size: str, total: float | None, *columns: ProgressColumn) -> Iterator[ProgressStep]:
        if not self._console.is_terminal:
            self._console.print(f"{title}{size}", markup=False, highlight=False, soft_wrap=True)
            yield _SilentStep()
            return
        column = Column(no_wrap=True, overflow="ellipsis", max_width=32)
        with Progress(
            TextColumn("{task.description}", markup=False, table_column=column),
            BarColumn(bar_width=20),
            *columns,
            console=self._console,
        ) as progress:
            step = _BarStep(progress, progress.add_task(title, total=total))
            yield step
            step.finish()

    def say(self, line: str) -> None:
        """Prints one line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=not self._console.is_terminal)

    def published(self) -> None:
        """Hears that the model is there, whatever happens to the rest of the import."""
