"""Whisper base, out of packages: both workers write transformers' text of a recording. `make test-models` runs it."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.sound.decoding import decode
from infermesh_worker.speech.executor import SpeechExecutor
from infermesh_worker_cpu.build import build as build_cpu
from infermesh_worker_xpu.build import build as build_xpu
from tests.models.packages import alone_with
from tests.models.running import CACHE
from tests.speech_models.folders import import_speech
from tests.speech_models.reference import Found, Reference, found_in, largest_difference, ours
from tests.speech_models.reference import as_found as ours_found

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDING = EXAMPLES / "data" / "jfk.mp3"
SAYS = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."
THREADS = 2
WORKERS: Mapping[str, Any] = {
    "cpu": (build_cpu, {}),
    "xpu": (build_xpu, {"device": "cpu", "device_index": 0}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whisper base as an import leaves it."""
    source, root = CACHE / "whisper-base", tmp_path_factory.mktemp("whisper") / "models"
    with alone_with(source):
        if not (source / "model.bin").is_file():
            subprocess.run([sys.executable, EXAMPLES / "get_whisper.py", source], check=True)
    assert import_speech(source, root, "whisper-base").not_for == ()
    return root / "whisper-base"


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference.load(folder)


@pytest.fixture(scope="module", params=WORKERS)
def exact(request: pytest.FixtureRequest, folder: Path) -> BuiltExecutor:
    return built(request.param, folder, "exact")


@pytest.fixture(scope="module")
def recording() -> Array:
    return decode(RECORDING.read_bytes())


def built(worker: str, folder: Path, numerics: str) -> BuiltExecutor:
    build, options = WORKERS[worker]
    made = build({"folder": str(folder), "verify": "never", "numerics": numerics, "threads": THREADS, **options})
    assert isinstance(made, BuiltExecutor)
    return made


def heard(made: BuiltExecutor, samples: Array, **params: Any) -> tuple[list[dict[str, Any]], Mapping[str, Any]]:
    """The segments, and the end."""
    parts: list[Result] = []
    (outcome,) = made.executor.run([Item(params=params, tensors={"samples": samples}, emit=parts.append)])
    assert isinstance(outcome, Result)
    return [part.params["segment"] for part in parts], outcome.params


def as_found(segments: list[dict[str, Any]], reference: Reference) -> list[Found]:
    return [found_in(s["start_s"], s["end_s"], s["token_ids"], reference.config) for s in segments]


def test_features_are_those_of_transformers(reference: Reference, recording: Array) -> None:
    assert largest_difference(recording, reference) < 1e-4
    assert largest_difference(np.tile(recording, 3), reference) < 1e-4


def test_the_recording_is_written_as_transformers_writes_it(
    exact: BuiltExecutor, reference: Reference, recording: Array
) -> None:
    segments, end = heard(exact, recording)
    assert as_found(segments, reference) == reference.greedy(recording, language="en", task="transcribe")
    assert "".join(segment["text"] for segment in segments).strip() == SAYS
    assert (end["language"], end["language_probability"] > 0.9) == ("en", True)
    assert all(segment["no_speech_prob"] < 0.2 and segment["mean_logprob"] > -0.5 for segment in segments)


def test_a_recording_of_several_windows_is_written_as_transformers_writes_it(
    exact: BuiltExecutor, folder: Path, reference: Reference, recording: Array
) -> None:
    long = np.tile(recording, 3)
    assert isinstance(exact.executor, SpeechExecutor)
    whole, segments = ours(exact.executor.device, folder, long, language="en")  # without fallback: it says it thrice
    assert ours_found(segments, reference.config) == reference.greedy(long, language="en", task="transcribe")
    assert whole.duration_s == pytest.approx(len(long) / 16_000)
    assert len({segment.begin_s for segment in segments}) > 2


def test_words_follow_one_another_within_the_sound(exact: BuiltExecutor, recording: Array) -> None:
    segments, end = heard(exact, recording, times="words")
    words = [word for segment in segments for word in segment["words"]]
    assert "".join(word["text"] for word in words) == "".join(segment["text"] for segment in segments)
    times = [time for word in words for time in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= end["duration_s"]
    found = {word["text"]: (word["start_s"], word["end_s"]) for word in words}
    for text, begin_s, end_s in ((" Americans,", 1.5, 2.4), (" country.", 9.8, 10.6)):  # as one hears them
        assert begin_s <= found[text][0] < found[text][1] <= end_s
    assert all(0.2 < word["probability"] <= 1 for word in words)


@pytest.mark.parametrize("worker", WORKERS)
def test_the_text_is_the_same_in_the_default_precision(worker: str, folder: Path, recording: Array) -> None:
    segments, _ = heard(built(worker, folder, "fast"), recording, language="en")
    assert "".join(segment["text"] for segment in segments).strip() == SAYS
