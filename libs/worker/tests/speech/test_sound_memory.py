"""Sounds take no more memory than they need: no copies, long ones one after the other, and a bound for all together."""

import threading
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from infermesh_runtime.errors import Cancelled, ResourceExhausted
from infermesh_worker.sound.decoding import _joined
from infermesh_worker.speech import room as sound_room
from infermesh_worker.speech.config import HOP, RATE, WINDOW, SpeechConfig
from infermesh_worker.speech.features import Features, _frames
from infermesh_worker.speech.room import SoundRoom


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("count", [320, 400, 2048 * HOP, 2048 * HOP + 30, 2049 * HOP + 159, 5000 * HOP])
def test_frames_are_those_of_the_sound_with_its_ends_reflected(count: int) -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, count).astype(np.float32)
    reflected = np.pad(samples, WINDOW // 2, mode="reflect")
    want = np.lib.stride_tricks.sliding_window_view(reflected, WINDOW)[::HOP][: count // HOP]
    cuts = [*range(0, count // HOP, 2048), count // HOP]
    found = [_frames(samples, begin, end) for begin, end in pairwise(cuts)]
    assert np.array_equal(np.concatenate(found), want)


def test_features_are_computed_without_a_copy_of_the_sound(config: SpeechConfig, traced: None) -> None:
    samples = np.zeros(900 * RATE, np.float32)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    features = Features(samples, config)
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before - features._mel.nbytes < samples.nbytes


def test_pieces_are_joined_within_the_memory_of_the_sound(traced: None) -> None:
    pieces = [np.full(1 << 18, index, np.float32) for index in range(20)]
    want = np.concatenate(pieces)
    before, _ = tracemalloc.get_traced_memory()
    joined = _joined(pieces)
    assert np.array_equal(joined, want)
    after, _ = tracemalloc.get_traced_memory()
    assert (pieces, after <= before + (1 << 16)) == ([], True)


def test_sounds_that_are_too_long_together_are_refused_in_words() -> None:
    room = SoundRoom(most_s=100)
    with room.place(lambda: None) as first:
        first.grow(30)
        first.grow(60)
        with room.place(lambda: None) as second:
            second.grow(40)
            with pytest.raises(ResourceExhausted, match="longer than") as caught:
                second.grow(41)
        assert caught.value.retry_after_s
        with room.place(lambda: None) as third:
            third.grow(40)
    with room.place(lambda: None) as alone:
        alone.grow(100)


def test_long_sounds_are_prepared_one_after_the_other_and_short_ones_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sound_room, "_PULSE_S", 0.01)
    room = SoundRoom(short_s=10)
    waits, entered = threading.Event(), threading.Event()

    def prepare() -> None:
        with room.place(waits.set) as place:
            place.grow(11)
            entered.set()

    with room.place(lambda: None) as long, room.place(lambda: None) as short:
        long.grow(20)
        thread = threading.Thread(target=prepare)
        thread.start()
        assert waits.wait(10)
        short.grow(10)
        assert not entered.is_set()
        long.prepared()
        assert entered.wait(10)
        thread.join(10)


def test_a_sound_that_waits_for_its_turn_may_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_room, "_PULSE_S", 0.01)
    room = SoundRoom(short_s=10)

    def cancel() -> None:
        raise Cancelled("nobody waits")

    with room.place(lambda: None) as long:
        long.grow(20)
        with pytest.raises(Cancelled), room.place(cancel) as second:
            second.grow(20)
    assert room._taken_s == 0
    with room.place(cancel) as third:
        third.grow(20)
