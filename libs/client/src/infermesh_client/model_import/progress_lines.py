"""Tells the progress of an import to another program: one JSON document a line."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from infermesh_client.model_import.progress import ProgressStep, ProgressView

_INTERVAL_S = 0.2
"""Shortest time between two lines about the same step."""


class _ToldStep:
    """Tells of a step at its start, at its end, and now and then in between."""

    def __init__(self, title: str, unit: str, total: float | None, tell: Callable[..., None]) -> None:
        self._title = title
        self._unit = unit
        self._total = total
        self._tell = tell
        self._done = 0.0
        self._told_s = 0.0
        self.tell()

    def set(self, done: float, total: float | None = None) -> None:
        self._done = done
        self._total = self._total if total is None else total
        self._tell_sometimes()

    def advance(self, amount: float) -> None:
        self._done += amount
        self._tell_sometimes()

    def tell(self) -> None:
        """Tells how far it is."""
        self._told_s = time.monotonic()
        self._tell(step=self._title, unit=self._unit, done=self._done, total=self._total)

    def _tell_sometimes(self) -> None:
        if time.monotonic() - self._told_s >= _INTERVAL_S:
            self.tell()


class ProgressLines(ProgressView):
    """Writes {"step", "unit", "done", "total"} for steps, {"note"} for lines and {"published"}, in place of bars."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    @contextmanager
    def bytes_step(self, title: str, total_bytes: int | None) -> Iterator[ProgressStep]:
        """A step counted in bytes."""
        with self._told(title, "bytes", total_bytes) as step:
            yield step

    @contextmanager
    def fraction_step(self, title: str) -> Iterator[ProgressStep]:
        """A step whose progress is a fraction in [0, 1]."""
        with self._told(title, "fraction", 1.0) as step:
            yield step

    def say(self, line: str) -> None:
        """Writes a note."""
        self._write(note=line)

    def published(self) -> None:
        """Writes that the model is there."""
        self._write(published=True)

    def fail(self, message: str) -> None:
        """Writes why the import failed."""
        self._write(error=message)

    @contextmanager
    def _told(self, title: str, unit: str, total: float | None) -> Iterator[ProgressStep]:
        step = _ToldStep(title, unit, total, self._write)
        yield step
        step.tell()

    def _write(self, **line: object) -> None:
        print(json.dumps(line), file=self._out, flush=True)
