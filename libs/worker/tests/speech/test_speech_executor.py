"""Whisper as an executor: parts as they are found, what was delivered, cancellation, signs of life, and refusals."""

import io
import weakref
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
from tokenizers import Tokenizer

from infermesh_runtime.errors import Cancelled, FailedPrecondition, InvalidArgument, ResourceExhausted
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Outcome, Result
from infermesh_worker.sound.decoding import check_samples
from infermesh_worker.speech import executor as speech_executor
from infermesh_worker.speech.check import check_speech
from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from infermesh_worker.speech.executor import SpeechExecutor, built_speech_model, wanted
from infermesh_worker.speech.languages import CODES
from infermesh_worker.speech.room import SoundRoom
from infermesh_worker.speech.transcriber import Transcriber
from infermesh_worker.speech.window import LADDER
from tests.speech_models.folders import sound, tiny_whisper
from tests.speech_models.scripted import Script, ScriptedSpeech


@pytest.fixture
def device(config: SpeechConfig, tokenizer: Tokenizer) -> ScriptedSpeech:
    first = config.tokens.first_time
    the, end = tokenizer.encode(" a", add_special_tokens=False).ids, first + 40
    return ScriptedSpeech(config, [Script([first, *the, end, end]), Script([first, *the, first + 10])])


@pytest.fixture
def made(device: ScriptedSpeech, config: SpeechConfig, tokenizer: Tokenizer) -> SpeechExecutor:
    return SpeechExecutor(Transcriber(device, config, tokenizer), parallel=2)


def run(made: SpeechExecutor, *, tensors: dict[str, Array] | None = None, **fields: Any) -> tuple[Outcome, list[Any]]:
    parts: list[Result] = []
    params = {"language": "en", **fields.pop("params", {})}
    given = {"samples": sound(1.5)} if tensors is None else tensors
    (outcome,) = made.run([Item(params=params, tensors=given, emit=parts.append, **fields)])
    return outcome, [part.params["segment"] for part in parts]


def test_segments_come_as_they_are_found_and_the_end_says_the_rest(made: SpeechExecutor) -> None:
    outcome, segments = run(made, params={"times": "words"})
    assert isinstance(outcome, Result)
    assert outcome.params == {
        "language": "en",
        "language_probability": 0.0,
        "duration_s": 1.5,
        "prompt_tokens": 0,
        "completion_tokens": 7,
    }
    assert [(part["index"], part["start_s"], part["end_s"], part["text"]) for part in segments] == [
        (0, 0.0, 0.8, " a"),
        (1, 0.8, 1.0, " a"),
    ]
    assert segments[0]["words"][0]["text"] == " a"
    assert msgspec.msgpack.decode(msgspec.msgpack.encode([outcome.params, segments])) == [outcome.params, segments]


def test_what_was_delivered_is_not_sent_again(made: SpeechExecutor) -> None:
    _, segments = run(made, params={"delivered_segments": 1})
    assert [part["index"] for part in segments] == [1]


def test_a_sound_file_is_decoded(made: SpeechExecutor) -> None:
    file = io.BytesIO()
    soundfile.write(file, sound(1.5), 16_000, format="FLAC")
    outcome, segments = run(made, tensors={"audio": np.frombuffer(file.getvalue(), np.uint8)})
    assert isinstance(outcome, Result)
    assert outcome.params["duration_s"] == 1.5
    assert len(segments) == 2


def test_a_request_that_nobody_waits_for_ends_at_the_next_token(made: SpeechExecutor, device: ScriptedSpeech) -> None:
    outcome, _ = run(made, cancelled=lambda: device.steps >= 2)
    assert isinstance(outcome, Cancelled)
    assert device.steps == 2


def test_samples_are_dropped_before_the_first_token(made: SpeechExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[weakref.ref[Array]] = []

    def checked(samples: Array) -> Array:
        found = check_samples(samples)
        seen.append(weakref.ref(found))
        return found

    dropped: list[bool] = []
    monkeypatch.setattr(speech_executor, "check_samples", checked)
    item = Item(
        params={"language": "en"}, tensors={"samples": sound(1.5)}, emit=lambda _: dropped.append(seen[0]() is None)
    )
    made.run([item])
    assert dropped == [True, True]


def test_sounds_that_are_too_long_together_are_refused(made: SpeechExecutor) -> None:
    made._room = SoundRoom(most_s=1.0)
    file = io.BytesIO()
    soundfile.write(file, sound(1.5), 16_000, format="FLAC")
    for tensors in ({"samples": sound(1.5)}, {"audio": np.frombuffer(file.getvalue(), np.uint8)}):
        outcome, _ = run(made, tensors=tensors)
        assert isinstance(outcome, ResourceExhausted)
    assert isinstance(run(made, tensors={"samples": sound(0.9)})[0], Result)
    assert made._room._taken_s == 0  # those that have ended do not count


def test_a_run_says_that_it_goes_on(made: SpeechExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[None] = []
    monkeypatch.setattr(speech_executor, "_ALIVE_S", 0.0)
    run(made, alive=lambda: signs.append(None))
    assert len(signs) > 5


@pytest.mark.parametrize(
    ("tensors", "field"),
    [({}, "audio"), ({"audio": np.zeros(100, np.uint8)}, "audio"), ({"samples": np.zeros(0, np.float32)}, "samples")],
)
def test_what_is_no_sound_is_refused_by_name(made: SpeechExecutor, tensors: dict[str, Array], field: str) -> None:
    outcome, _ = run(made, tensors=tensors)
    assert isinstance(outcome, InvalidArgument)
    assert field in outcome.fields


def test_temperature_0_may_rise_and_others_stay() -> None:
    assert wanted({}).temperatures == wanted({"temperature": 0.0}).temperatures == LADDER
    assert wanted({"temperature": 0.5}).temperatures == (0.5,)


def test_several_sounds_run_at_a_time_each_alone(made: SpeechExecutor, config: SpeechConfig) -> None:
    item = Item(tensors={"samples": sound(1.0)})
    assert (made.group(item), made.size(item), made.parallel) == (None, 1, 2)
    built = built_speech_model(made._transcriber, name="m", parallel=2)
    assert (built.kind, built.name, built.limits.max_size) == ("transcribe", "m", 1)


def test_names_of_languages_are_known_by_the_codes_of_whisper() -> None:
    assert len(set(CODES.values())) == 100
    assert (CODES["english"], CODES["haitian creole"], CODES["cantonese"]) == ("en", "ht", "yue")


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", {"model_type": "bert"}, "model_type"),
        ("config.json", {"max_source_positions": None}, "incomplete"),
        ("preprocessor_config.json", {"hop_length": 128}, "hop_length"),
        ("generation_config.json", {"alignment_heads": [[9, 0]]}, "alignment heads"),
    ],
)
def test_folders_that_are_no_whisper_are_refused(tmp_path: Path, file: str, change: dict[str, Any], says: str) -> None:
    folder = tiny_whisper(tmp_path / "w")
    path = folder / file
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **change}))
    with pytest.raises(FailedPrecondition, match=says):
        read_speech_config(folder, Tokenizer.from_file(str(folder / "tokenizer.json")))


def test_a_model_whose_numbers_are_not_finite_is_refused(folder: Path, config: SpeechConfig) -> None:
    class Broken(ScriptedSpeech):
        def extend(self, ids: Any, places: Any) -> Array:
            return np.full((len(places), config.vocab_size), np.nan, np.float32)

    with pytest.raises(FailedPrecondition, match="not finite"):
        check_speech(folder, lambda _folder, _config: Broken(config, []), lambda _stage, _done: None)
