"""Estimates how far the load of a model is, from how long loads took before. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from infermesh_worker.engine_client.engine_status import EngineStatus

_START_S = 2.0
"""What a load takes besides its weights: a process starts and imports its libraries. A guess for the first load."""
_FIRST_BYTES_PER_S = 300e6
"""How fast weights are loaded, until a load has shown it."""
_MOST = 0.99
"""The fraction of a load that takes longer than expected."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a load is."""

    fraction: float
    """In [0, 1)."""
    left_s: float | None
    """Time until it is done; None: it takes longer than expected."""


def estimate(elapsed_s: float, expected_s: float) -> LoadProgress:
    """The progress of a load that has run for `elapsed_s` and was expected to take `expected_s`."""
    if elapsed_s >= expected_s:
        return LoadProgress(_MOST, None)
    return LoadProgress(_MOST * elapsed_s / expected_s, expected_s - elapsed_s)


@dataclass(slots=True)
class LoadTimes:
    """How long the loads of this worker took."""

    _took_s: dict[str, float] = field(default_factory=dict)
    """Model → the time of its last load."""
    _bytes_per_s: float = _FIRST_BYTES_PER_S

    def note(self, model: str, size_bytes: int, took_s: float) -> None:
        """Records a load. `size_bytes` is the size of the model's weights."""
        self._took_s[model] = took_s
        if size_bytes > 0 and took_s > _START_S:  # of a shorter one, the weights are not the most part
            self._bytes_per_s = size_bytes / (took_s - _START_S)

    def expected_s(self, model: str, size_bytes: int) -> float:
        """How long a load will take: as the model's last one, or by the speed of the last one of another model."""
        took_s = self._took_s.get(model)
        return _START_S + size_bytes / self._bytes_per_s if took_s is None else took_s


class LoadMeter:
    """Watches the first load of one model. `heard` is told each status of its engine process."""

    def __init__(self, times: LoadTimes, model: str, size_bytes: int, clock: Callable[[], float]) -> None:
        self._times = times
        self._model = model
        self._size_bytes = size_bytes
        self._clock = clock
        self._since_s = clock()
        self._over = False

    def heard(self, status: EngineStatus) -> None:
        """Notes how long the load took, once it has succeeded."""
        if self._over:
            return
        if status.info is not None:
            self._times.note(self._model, self._size_bytes, self._clock() - self._since_s)
        self._over = status.info is not None or status.load_failure is not None

    @property
    def progress(self) -> LoadProgress | None:
        """How far the load is; None once it has ended."""
        if self._over:
            return None
        return estimate(self._clock() - self._since_s, self._times.expected_s(self._model, self._size_bytes))
