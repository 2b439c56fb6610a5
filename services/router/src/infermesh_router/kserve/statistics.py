"""Counts what was asked of each model through this protocol, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MAX_MODELS = 1024


@dataclass(slots=True)
class ModelCounts:
    """The counts of one model. Times are in nanoseconds."""

    succeeded: int = 0
    succeeded_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    last_ms: int = 0
    """When the last request ended, in milliseconds of Unix time."""


class Statistics:
    """The counts of all models that answered once."""

    def __init__(
        self, clock_ns: Callable[[], int] = time.perf_counter_ns, now_s: Callable[[], float] = time.time
    ) -> None:
        self._clock_ns = clock_ns
        self._now_s = now_s
        self._models: dict[str, ModelCounts] = {}

    def of(self, model: str) -> ModelCounts:
        """The counts of a model."""
        return self._models.get(model, ModelCounts())

    @contextmanager
    def measured(self, model: str) -> Iterator[None]:
        """Counts the block as a request to a model. Failures of models that never answered are not kept, so that
        clients cannot fill the memory with names."""
        began_ns, succeeded = self._clock_ns(), False
        try:
            yield
            succeeded = True
        finally:
            self._note(model, self._clock_ns() - began_ns, succeeded)

    def _note(self, model: str, took_ns: int, succeeded: bool) -> None:
        counts = self._models.get(model)
        if counts is None:
            if not succeeded or len(self._models) >= _MAX_MODELS:
                return
            counts = self._models[model] = ModelCounts()
        counts.last_ms = int(self._now_s() * 1000)
        if succeeded:
            counts.succeeded += 1
            counts.succeeded_ns += took_ns
        else:
            counts.failed += 1
            counts.failed_ns += took_ns
