"""The SDK and the command transcribe and speak, over a router and a simulated worker."""

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from infermesh_client import Speech, Transcript
from infermesh_client.aio import AsyncClient
from infermesh_client.cli.app import app
from infermesh_client.client import Client
from infermesh_client.speech_request import build_transcribe_request
from infermesh_router.testing.router import running_router
from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.testing.processes import connected, simulated_worker_process
from infermesh_worker.testing.simulated_speech import SAMPLE_RATE, SEGMENT_S, sound_of, texts_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOUND = b"a sound file"
TEXT = "One sentence. Another one!"
SEGMENTS = 3
Run = Callable[..., str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[str]:
    """The address of a router whose worker has a model of each kind."""
    models = {"sim_models": "ears:1MiB,mouth:1MiB", "sim_transcribers": "ears", "sim_speakers": "mouth"}
    async with simulated_worker_process(model="none", sim_part_s=0, sim_segments=SEGMENTS, **models) as worker:
        async with connected(worker) as stubs:
            await stubs.load("ears", "mouth")
        async with running_router(await worker.ready()) as router:
            yield router.address


@pytest.fixture
def sound_file(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(SOUND)
    return tmp_path / "a.wav"


def text_of(sound: bytes) -> str:
    return "".join(texts_of(sound, SEGMENTS)).strip()


async def test_the_asynchronous_client(mesh: str, sound_file: Path) -> None:
    async with AsyncClient(mesh) as client:
        for sound in (SOUND, sound_file, str(sound_file)):
            heard = await client.transcribe(sound, words=True, language="de")
            assert (heard.text, heard.language) == (text_of(SOUND), "de")
            assert heard.segments[0].words
            assert heard.started.endpoint
        segments = [segment.text async for segment in client.transcribe_segments(SOUND, model="ears")]
        assert segments == list(texts_of(SOUND, SEGMENTS))
        spoken = await client.speak(TEXT, voice="bob", speed=2.0)
        wanted = np.concatenate(list(sound_of(TEXT, voice="bob", speed=2.0)))
        assert np.array_equal(spoken.samples, wanted)
        assert (spoken.sample_rate, spoken.finished.characters) == (SAMPLE_RATE, len(TEXT))
        with pytest.raises(InvalidArgument, match="there is no voice 'eve'"):
            await client.speak(TEXT, voice="eve")


async def test_the_synchronous_client(mesh: str, sound_file: Path, tmp_path: Path) -> None:
    def ask() -> None:
        with Client(mesh) as client:
            assert client.transcribe(sound_file, model="ears").text == text_of(SOUND)
            assert client.transcribe(SOUND, translate=True).text.startswith("Translated")
            samples = np.linspace(-1, 1, 16_000)
            heard = client.transcribe(samples)
            assert heard.finished.duration_s == 1.0
            assert heard.text == text_of(samples.astype(np.float32).tobytes())
            told = Transcript()
            assert len(list(client.transcribe_segments(SOUND, into=told))) == len(told.segments) == SEGMENTS
            spoken = client.speak(TEXT)
            assert isinstance(spoken, Speech)
            spoken.save(tmp_path / "b.wav")
        with wave.open(str(tmp_path / "b.wav")) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (SAMPLE_RATE, 1, 2)
            assert file.getnframes() == len(spoken.samples)

    await _in_thread(ask)


async def test_samples_of_another_rate_go_as_a_file() -> None:
    request = build_transcribe_request("", np.array([0.5, -0.5]), {"sample_rate": 44_100})
    assert not request.HasField("samples")
    assert request.audio[:4] == b"RIFF"
    assert np.array_equal(np.frombuffer(request.audio[44:], "<f4"), np.array([0.5, -0.5], np.float32))
    for bad, rate in ((np.zeros((2, 2), np.float32), 16_000), (np.zeros(2, np.int16), 16_000), (np.zeros(2), 0)):
        with pytest.raises(InvalidArgument):
            build_transcribe_request("", bad, {"sample_rate": rate})


async def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"/none/a\.wav cannot be read: No such file or directory"):
        build_transcribe_request("", "/none/a.wav", {})


@pytest.fixture
def run(mesh: str) -> Run:
    def call(*arguments: str, code: int = 0, stdin: str | None = None) -> str:
        result = CliRunner().invoke(app, [*arguments, "--endpoint", mesh], input=stdin)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result.output

    return call


async def test_the_command_transcribes(run: Run, sound_file: Path) -> None:
    def ask() -> None:
        assert run("transcribe", str(sound_file)) == text_of(SOUND) + "\n"
        srt = run("transcribe", str(sound_file), "--format", "srt", "--model", "ears")
        assert srt.startswith("1\n00:00:00,000 --> 00:00:02,000\nHeard")
        assert srt.count(" --> ") == SEGMENTS
        vtt = run("transcribe", str(sound_file), "--format", "vtt", "--device", "cpu")
        assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHeard")
        found = json.loads(run("transcribe", str(sound_file), "--format", "json", "--words"))
        assert (found["text"], found["language"]) == (text_of(SOUND), "en")
        assert found["segments"][1]["start_s"] == SEGMENT_S
        assert len(found["segments"][0]["words"]) == 4

    await _in_thread(ask)


async def test_the_command_speaks(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "said.wav"

    def ask() -> None:
        assert run("speak", TEXT, "--output", str(output), "--voice", "ada").startswith(f"{output}: 1.3 s of speech")
        with wave.open(str(output)) as file:
            assert file.getnframes() == sum(map(len, sound_of(TEXT)))
        run("speak", "-", "--output", str(output), stdin="Hello.")

    await _in_thread(ask)


async def test_the_command_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    def ask() -> None:
        assert "none.wav cannot be read: No such file" in run("transcribe", str(tmp_path / "none.wav"), code=1)
        assert "saved as a .wav file" in run("speak", "x", "--output", str(tmp_path / "a.mp3"), code=1)
        assert "cannot be written" in run("speak", "x", "--output", str(tmp_path / "none" / "a.wav"), code=1)
        assert "there is no voice 'eve'" in run(
            "speak", "x", "--output", str(tmp_path / "a.wav"), "--voice", "eve", code=1
        )

    await _in_thread(ask)


async def _in_thread(ask: Callable[[], None]) -> None:
    """Runs what blocks while the router in this process goes on."""
    await asyncio.to_thread(ask)
