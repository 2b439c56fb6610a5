"""Bounds the memory of all sounds that are worked on together: their seconds, and how many are prepared at a time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.sound.decoding import MOST_S

MOST_TOGETHER_S = 2.0 * MOST_S
"""Seconds of all sounds together: the features of two of the longest take 0.5 to 0.8 GB."""
SHORT_S = 600.0
"""Longer sounds are prepared one after the other, since the samples of a long one take memory beside its features."""
_RETRY_S = 30.0
_PULSE_S = 1.0


class SoundRoom:
    """The sounds that a model works on now. Used from several threads."""

    def __init__(self, *, most_s: float = MOST_TOGETHER_S, short_s: float = SHORT_S) -> None:
        self._most_s = most_s
        self._short_s = short_s
        self._lock = threading.Lock()
        self._taken_s = 0.0
        self._turn = threading.Lock()
        """Held while a long sound is prepared."""

    @contextmanager
    def place(self, pulse: Callable[[], None]) -> Iterator["Place"]:
        """Room for a sound, until the block is left. `pulse` is called while it waits, and may raise."""
        place = Place(self, pulse)
        try:
            yield place
        finally:
            place.prepared()
            self._give_back(place.seconds)

    def _take(self, seconds: float) -> None:
        with self._lock:
            if self._taken_s + seconds > self._most_s:
                raise ResourceExhausted(
                    f"The sounds that this model works on would be longer than {self._most_s / 3600:g} h together. "
                    "Retry when others have ended, or send a shorter sound.",
                    reason="SOUNDS_TOO_LONG",
                    retry_after_s=_RETRY_S,
                )
            self._taken_s += seconds

    def _give_back(self, seconds: float) -> None:
        with self._lock:
            self._taken_s -= seconds

    def _wait_for_turn(self, pulse: Callable[[], None]) -> None:
        while not self._turn.acquire(timeout=_PULSE_S):
            pulse()


class Place:
    """The room of one sound, which grows while it is decoded."""

    def __init__(self, room: SoundRoom, pulse: Callable[[], None]) -> None:
        self._room = room
        self._pulse = pulse
        self._has_turn = False
        self.seconds = 0.0

    def grow(self, seconds: float) -> None:
        """The sound is so long, at least. Waits for its turn if it is long. Raises ResourceExhausted."""
        self._room._take(seconds - self.seconds)
        self.seconds = seconds
        if seconds > self._room._short_s and not self._has_turn:
            self._room._wait_for_turn(self._pulse)
            self._has_turn = True

    def prepared(self) -> None:
        """Its features are there, and its samples are dropped: the next long one may be prepared."""
        if self._has_turn:
            self._has_turn = False
            self._room._turn.release()
