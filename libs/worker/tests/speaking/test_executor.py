"""What is spoken: pieces in order, going on after a move, voices, languages, speed, cancelling, turns, and refusals."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Cancelled, InfermeshError, Internal, InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Outcome, Result, executor_info
from infermesh_worker.speaking.executor import PIECE_PHONEMES, SpeakingExecutor
from infermesh_worker.speaking.interface import SAMPLE_RATE
from infermesh_worker.speaking.voice_mix import voice_named

VOCABULARY = {mark: place for place, mark in enumerate(" .,!abcdefghijklmnopqrstuvwxyz", 1)}
VOICES = {name: np.full((510, 256), level, np.float32) for name, level in (("af_one", 0.0), ("bf_two", 0.5))}
FIRST, SECOND = "the first sentence has more than forty letters.", "so has the second one, as everybody can see!"


class Recorder:
    """A graph that sounds like the ids that it is given, plus its style; and letters for phonemes."""

    def __init__(self) -> None:
        self.info: RunnerInfo = executor_info(
            device_kind="cpu", device_name="none", memory_total_bytes=1, runtime="none", weights_bytes=1
        )
        self.speeds: list[float] = []
        self.languages: list[str] = []
        self.before: Callable[[], object] = bool
        self.scale = 0.01

    def speak(self, ids: Array, style: Array, speed: float) -> Array:
        assert ids.dtype == np.int64
        assert (ids.shape[0], style.shape) == (1, (1, 256))
        self.before()
        self.speeds.append(speed)
        found: Array = ids[0].astype(np.float32) * np.float32(self.scale) + style[0, 0]
        return found

    def phonemes(self, text: str, language: str) -> str:
        self.languages.append(language)
        return text

    def memory_free_bytes(self) -> int:
        return 7


@pytest.fixture
def graph() -> Recorder:
    return Recorder()


def sound(text: str, level: float = 0.0) -> Array:
    ids = np.array([0, *(VOCABULARY[mark] for mark in text), 0], np.float32)
    found: Array = np.clip(ids * np.float32(0.01) + np.float32(level), -1, 1)
    return found


def speak(
    graph: Recorder, text: str, *, cancelled: Callable[[], bool] = lambda: False, **params: Any
) -> tuple[Outcome, dict[int, Array]]:
    """The outcome, and the pieces by their index."""
    pieces: dict[int, Array] = {}

    def emit(part: Result) -> None:
        assert part.params["sample_rate"] == SAMPLE_RATE
        assert all(before < part.params["piece"] for before in pieces)
        pieces[part.params["piece"]] = part.tensors["samples"]

    given = {"text": text, "voice": "", "speed": 1.0, "language": "", "delivered_pieces": 0, **params}
    executor = SpeakingExecutor(graph, graph, VOICES, VOCABULARY)
    (outcome,) = executor.run([Item(params=given, emit=emit, cancelled=cancelled)])
    executor.close()
    return outcome, pieces


def refused(outcome: Outcome) -> InfermeshError:
    assert isinstance(outcome, InfermeshError)
    return outcome


def test_a_piece_for_each_sentence_and_the_length_at_the_end(graph: Recorder) -> None:
    outcome, pieces = speak(graph, f"{FIRST} {SECOND}")
    assert [*pieces] == [0, 1]
    assert np.array_equal(pieces[0], sound(FIRST))
    assert np.array_equal(pieces[1], sound(SECOND))
    assert isinstance(outcome, Result)
    length = sum(map(len, pieces.values()))
    assert outcome.params == {
        "duration_s": length / SAMPLE_RATE,
        "characters": len(FIRST) + len(SECOND) + 1,
        "prompt_tokens": 0,
    }


def test_it_goes_on_after_the_pieces_that_were_delivered(graph: Recorder) -> None:
    _, whole = speak(graph, f"{FIRST} {SECOND} {FIRST}")
    graph.speeds.clear()
    _, rest = speak(graph, f"{FIRST} {SECOND} {FIRST}", delivered_pieces=1)
    assert [*rest] == [1, 2]
    assert all(np.array_equal(whole[index], rest[index]) for index in rest)
    assert len(graph.speeds) == 2  # what was delivered is not computed again


def test_all_delivered_ends_without_a_piece(graph: Recorder) -> None:
    outcome, pieces = speak(graph, FIRST, delivered_pieces=1)
    assert (isinstance(outcome, Result), pieces) == (True, {})


def test_joined_voices_are_their_mean(graph: Recorder) -> None:
    assert np.array_equal(speak(graph, "a", voice="bf_two")[1][0], sound("a", 0.5))
    assert np.array_equal(speak(graph, "a", voice="af_one+bf_two")[1][0], sound("a", 0.25))


def test_a_voice_may_be_named_without_its_prefix(graph: Recorder) -> None:
    """As OpenAI's clients do: Kokoro's af_alloy is their alloy."""
    assert np.array_equal(speak(graph, "a", voice="two")[1][0], sound("a", 0.5))
    assert np.array_equal(speak(graph, "a", voice="two+one")[1][0], sound("a", 0.25))
    assert graph.languages == ["en-gb", "en-gb"]
    assert voice_named("santa", ["am_santa", "em_santa"]) is None  # which of both?


@pytest.mark.parametrize(
    ("voice", "language", "read_as"),
    [
        ("", "", "en-us"),
        ("bf_two", "", "en-gb"),
        ("bf_two", "en", "en-gb"),
        ("bf_two+af_one", "EN", "en-gb"),
        ("af_one", "fr", "fr-fr"),
        ("af_one", "pt", "pt-br"),
    ],
)
def test_languages(graph: Recorder, voice: str, language: str, read_as: str) -> None:
    speak(graph, "a", voice=voice, language=language)
    assert graph.languages == [read_as]


@pytest.mark.parametrize("speed", [0.25, 1.0, 4.0])
def test_pieces_are_short_enough_at_every_speed(graph: Recorder, speed: float) -> None:
    text = "word " * 100
    _, pieces = speak(graph, text, speed=speed)
    assert set(graph.speeds) == {speed}
    most = int(PIECE_PHONEMES * min(speed, 1))
    assert max(map(len, pieces.values())) <= most + 2
    assert len(pieces) <= 2 * len(text) / most


@pytest.mark.parametrize(
    ("params", "field"),
    [({"voice": "af_none"}, "voice"), ({"voice": "af_one+"}, "voice"), ({"language": "xx"}, "language")],
)
def test_errors_name_the_field(graph: Recorder, params: dict[str, Any], field: str) -> None:
    outcome, pieces = speak(graph, FIRST, **params)
    assert (type(refused(outcome)), [*refused(outcome).fields], pieces) == (InvalidArgument, [field], {})


@pytest.mark.parametrize("text", ["...", "?!", "123"])
def test_a_text_without_phonemes_is_refused(graph: Recorder, text: str) -> None:
    assert [*refused(speak(graph, text)[0]).fields] == ["text"]


def test_a_piece_without_phonemes_has_no_index(graph: Recorder) -> None:
    assert [*speak(graph, f"{FIRST}\n...\n{SECOND}")[1]] == [0, 1]


def test_a_cancelled_text_ends_before_its_next_piece(graph: Recorder) -> None:
    spoken: list[bool] = []
    graph.before = lambda: spoken.append(True)
    outcome, pieces = speak(graph, f"{FIRST} {SECOND}", cancelled=lambda: bool(spoken))
    assert isinstance(outcome, Cancelled)
    assert [*pieces] == [0]


def test_sound_is_clipped_and_must_be_finite(graph: Recorder) -> None:
    graph.scale = 1.0
    assert speak(graph, "az")[1][0].max() == 1.0
    graph.scale = float("nan")
    assert isinstance(refused(speak(graph, "az")[0]), Internal)


def test_texts_take_turns_and_one_piece_runs_at_a_time(graph: Recorder) -> None:
    """Each text waits after its first piece until the other has one too, which needs the graph in between."""
    executor = SpeakingExecutor(graph, graph, VOICES, VOCABULARY)
    both = threading.Barrier(2, timeout=30)
    ended: list[str] = []

    def run(letter: str) -> None:
        def emit(part: Result) -> None:
            if part.params["piece"] == 0:
                both.wait()

        params = {"text": f"{letter * 45}. " * 6, "voice": "", "speed": 1.0, "language": "", "delivered_pieces": 0}
        (outcome,) = executor.run([Item(params=params, emit=emit)])
        assert isinstance(outcome, Result)
        ended.append(letter)

    runners: set[int] = set()
    graph.before = lambda: runners.add(threading.get_ident())
    threads = [threading.Thread(target=run, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    executor.close()
    assert sorted(ended) == ["a", "b"]
    assert len(runners) == 1  # one thread runs the graph, so that no two pieces do at a time
