"""Speech with the unmodified `openai` package, through the real Envoy; the model is simulated."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from infermesh_worker.testing.simulated_speech import SAMPLE_RATE, sound_of
from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(120)

TEXT = "One sentence. Another one! And a third?"


@pytest.fixture(scope="module")
def client(audio_mesh: Mesh) -> Iterator[openai.OpenAI]:
    with audio_mesh.openai() as opened:
        yield opened


@pytest.fixture(scope="module")
def http(audio_mesh: Mesh) -> Iterator[httpx.Client]:
    with audio_mesh.http() as opened:
        yield opened


@pytest.mark.parametrize(
    ("form", "content_type", "near"),
    [
        ("mp3", "audio/mpeg", 3000),
        ("opus", "audio/ogg", 0),
        ("flac", "audio/flac", 0),
        ("wav", "audio/wav", 0),
    ],
)
def test_speech_can_be_read_in_every_format(client: openai.OpenAI, form: Any, content_type: str, near: int) -> None:
    answer = client.audio.speech.create(model="mouth", input=TEXT, voice="bob", response_format=form, speed=2.0)
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    wanted = np.concatenate(list(sound_of(TEXT, speed=2.0, voice="bob")))
    assert answer.response.headers["content-type"] == content_type
    assert rate == SAMPLE_RATE
    assert abs(len(samples) - len(wanted)) <= near
    assert 0.45 < np.abs(samples).max() < 0.6
    if form in ("wav", "flac"):
        assert np.abs(samples - wanted).max() < 1e-4


def test_pcm_is_raw_and_mp3_is_the_usual_answer(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(model="mouth", input=TEXT, voice="ada", response_format="pcm")
    samples = np.frombuffer(answer.content, "<i2") / 32_767
    wanted = np.concatenate(list(sound_of(TEXT)))
    assert np.abs(samples - wanted).max() < 1e-4
    usual = client.audio.speech.create(model="mouth", input=TEXT, voice="ada")
    assert usual.response.headers["content-type"] == "audio/mpeg"
    assert usual.response.headers["x-infermesh-device"] == "cpu"


def test_sound_comes_while_it_is_made(client: openai.OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="mouth", input=TEXT, voice="ada", response_format="wav"
    ) as answer:
        chunks = list(answer.iter_bytes())
    assert len(chunks) > 1
    samples, _ = soundfile.read(io.BytesIO(b"".join(chunks)), dtype="float32")
    assert len(samples) == sum(map(len, sound_of(TEXT)))


def test_speech_as_events(http: httpx.Client) -> None:
    body = {"model": "mouth", "input": TEXT, "response_format": "pcm", "stream_format": "sse", "voice": {"id": "bob"}}
    answer = http.post("/v1/audio/speech", json=body).raise_for_status()
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [httpx.Response(200, content=line[6:]).json() for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events] == [*["speech.audio.delta"] * 3, "speech.audio.done"]
    assert events[-1]["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"input": ""}, "input", "must not be empty"),
        ({"input": "  "}, "input", "must not be empty"),
        ({"input": "x" * 4097}, "input", "must have at most 4096 characters"),
        ({"voice": "alloy"}, "voice", "there is no voice 'alloy'; the model has ada, bob"),
        ({"response_format": "aac"}, "response_format", 'supports only "mp3", "opus", "flac", "wav", "pcm"'),
        ({"speed": 5}, "speed", "less than or equal to 4"),
        ({"stream_format": "xml"}, "stream_format", "'audio' or 'sse'"),
        ({"voice": {"name": "ada"}}, "voice.id", "is required"),
    ],
)
def test_what_speech_may_not_be_asked_for_is_refused_by_name(
    http: httpx.Client, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = http.post("/v1/audio/speech", json={"model": "mouth", "input": "x", "voice": "ada"} | fields)
    assert answer.status_code == 400
    found = answer.json()["error"]
    assert found["param"] == param
    assert words in found["message"]


def test_instructions_are_named_as_ignored(http: httpx.Client) -> None:
    body = {"model": "mouth", "input": "x", "instructions": "Whisper.", "stream": True}
    answer = http.post("/v1/audio/speech", json=body).raise_for_status()
    assert answer.headers["x-infermesh-ignored-fields"] == "instructions"
