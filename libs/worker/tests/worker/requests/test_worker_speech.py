"""A worker turns speech into text and text into speech: parts as they come, continued by number, errors by field."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.tensors import from_numpy, to_numpy
from infermesh_worker.testing.processes import WorkerProcess, WorkerStubs, connected, simulated_worker_process
from infermesh_worker.testing.simulated_speech import BAD, DEADLY, SAMPLE_RATE, VOICES, sound_of, texts_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOUND = b"a sound file" * 3000
SAMPLES = from_numpy(np.linspace(-1, 1, 16_000, dtype=np.float32))
TEXT = "One sentence. Another one! And a third?"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def speech_worker() -> AsyncIterator[WorkerProcess]:
    models = {"sim_models": "ears:1MiB,mouth:1MiB", "sim_transcribers": "ears", "sim_speakers": "mouth"}
    async with simulated_worker_process(model="none", sim_part_s=0.002, **models) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stubs(speech_worker: WorkerProcess) -> AsyncIterator[WorkerStubs]:
    async with connected(speech_worker) as found:
        await found.load("ears", "mouth")
        yield found


async def heard(stubs: WorkerStubs, **fields: object) -> list[pb.TranscribeResponse]:
    request = pb.TranscribeRequest(**{"audio": SOUND, **fields})  # type: ignore[arg-type] # the test knows the fields
    return [response async for response in stubs.inference.Transcribe(request)]


async def spoken(stubs: WorkerStubs, **fields: object) -> list[pb.SpeakResponse]:
    request = pb.SpeakRequest(**{"text": TEXT, **fields})  # type: ignore[arg-type] # the test knows the fields
    return [response async for response in stubs.inference.Speak(request)]


async def test_segments_come_between_the_start_and_the_end(stubs: WorkerStubs) -> None:
    started, *segments, finished = await heard(stubs, model="ears", prompt="two words", language="de")
    assert (started.started.model, started.started.device) == ("ears", pb.DEVICE_KIND_CPU)
    assert started.started.sample_rate == 0
    assert [response.segment.text for response in segments] == list(texts_of(SOUND, 5))
    assert [response.segment.index for response in segments] == list(range(5))
    assert not segments[0].segment.words
    end = finished.finished
    assert (end.language, end.language_probability, end.duration_s) == ("de", 0.0, len(SOUND) / 32_000)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (2, 20)


async def test_words_and_a_detected_language_are_told(stubs: WorkerStubs) -> None:
    _, *segments, finished = await heard(stubs, times=pb.SPEECH_TIMES_WORDS, task=pb.SPEECH_TASK_TRANSLATE)
    words = segments[1].segment.words
    assert "".join(word.text for word in words) == segments[1].segment.text
    assert words[0].start_s == segments[1].segment.start_s
    assert segments[1].segment.text.startswith(" Translated")
    assert (finished.finished.language, finished.finished.language_probability) == ("en", 0.75)


async def test_samples_are_taken_instead_of_a_file(stubs: WorkerStubs) -> None:
    *_, finished = await heard(stubs, audio=b"", samples=SAMPLES)
    assert finished.finished.duration_s == 1.0


async def test_delivered_parts_are_not_sent_again(stubs: WorkerStubs) -> None:
    _, *segments, _ = await heard(stubs, delivered_segments=3)
    assert [response.segment.index for response in segments] == [3, 4]
    _, *pieces, finished = await spoken(stubs, delivered_pieces=2)
    assert [response.audio.index for response in pieces] == [2]
    assert finished.finished.characters == len(TEXT)
    started, finished_only = await heard(stubs, delivered_segments=5)
    assert started.HasField("started")
    assert finished_only.HasField("finished")


async def test_a_text_is_spoken_piece_by_piece(stubs: WorkerStubs) -> None:
    started, *pieces, finished = await spoken(stubs, voice="bob", speed=2.0)
    assert (started.started.model, started.started.sample_rate) == ("mouth", SAMPLE_RATE)
    wanted = list(sound_of(TEXT, speed=2.0, voice="bob"))
    assert len(wanted) == len(pieces) == 3
    for response, samples in zip(pieces, wanted, strict=True):
        assert np.array_equal(to_numpy(response.audio.samples, field="samples"), samples)
    assert finished.finished.duration_s == pytest.approx(sum(map(len, wanted)) / SAMPLE_RATE)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"audio": b""}, "audio", "exactly one of audio and samples is required, and neither is given"),
        ({"samples": SAMPLES}, "audio", "both are given"),
        ({"audio": b"", "samples": from_numpy(np.zeros((2, 2), np.float32))}, "samples", "shape [2, 2]"),
        ({"audio": b"", "samples": from_numpy(np.zeros(2))}, "samples", "not float64"),
        ({"audio": b"", "samples": from_numpy(np.full(2, np.nan, np.float32))}, "samples", "finite"),
        ({"temperature": 1.5}, "temperature", "from 0 to 1, not 1.5"),
        ({"temperature": float("nan")}, "temperature", "not nan"),
        ({"task": 9}, "task", "no value 9"),
        ({"times": 9}, "times", "no value 9"),
        ({"priority": 101}, "priority", "from -100 to 100"),
        ({"prompt": "x" * 65_537}, "prompt", "at most 65536 characters"),
        ({"language": "x" * 300}, "language", "at most 256 characters"),
        ({"audio": BAD}, "audio", "cannot be read as WAV, FLAC, MP3 or OGG"),
    ],
)
async def test_what_cannot_be_transcribed_is_refused_by_field(
    stubs: WorkerStubs, fields: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=field) as caught:
        await heard(stubs, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"text": " \n"}, "text: must not be empty"),
        ({"text": "x" * 65_537}, "text: must have at most 65536 characters"),
        ({"speed": 0.2}, "speed: must be from 0.25 to 4, not 0.2"),
        ({"voice": "eve"}, "voice: there is no voice 'eve'; the model has ada, bob"),
        ({"voice": "ada+eve"}, "voice: there is no voice 'eve'"),
        ({"voice": "+".join(["ada"] * 17)}, "voice: must join at most 16 voices, not 17"),
        ({"priority": -101}, "priority: must be from -100 to 100"),
    ],
)
async def test_what_cannot_be_spoken_is_refused_by_field(
    stubs: WorkerStubs, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await spoken(stubs, **fields)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in (caught.value.details() or "")


async def test_models_of_another_kind_are_refused_by_name(stubs: WorkerStubs) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="'mouth' turns text into speech; this call needs a model"):
        await heard(stubs, model="mouth")
    with pytest.raises(grpc.aio.AioRpcError, match="'ears' turns speech into text; this call needs a model"):
        await spoken(stubs, model="ears")


async def test_reports_name_the_voices(stubs: WorkerStubs) -> None:
    report = await stubs.report()
    available = {model.name: model for model in report.available}
    assert tuple(available["mouth"].voices) == VOICES
    assert not available["ears"].voices
    assert available["ears"].kind == pb.MODEL_KIND_TRANSCRIBE


async def test_a_call_that_is_left_frees_the_model(stubs: WorkerStubs) -> None:
    call = stubs.inference.Speak(pb.SpeakRequest(text=TEXT * 500))
    assert (await call.read()).HasField("started")
    call.cancel()
    report = await stubs.report_when(lambda found: found.load.running == 0)
    assert report.load.waiting == 0
    assert len(await spoken(stubs)) == 5


async def test_a_crash_ends_its_calls_and_the_model_comes_back(stubs: WorkerStubs) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await heard(stubs, audio=DEADLY)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    await stubs.report_when(lambda found: all(model.state == pb.ENDPOINT_STATE_READY for model in found.models))
    assert len(await heard(stubs)) == 7
