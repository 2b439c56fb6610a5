"""Transcriptions with the unmodified `openai` package, through the real Envoy; the model is simulated."""

import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from infermesh_worker.testing.simulated_speech import BAD, VOICES, texts_of
from tests.conformance.conftest import AUDIO_SEGMENTS as SEGMENTS
from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def client(audio_mesh: Mesh) -> Iterator[openai.OpenAI]:
    with audio_mesh.openai() as opened:
        yield opened


@pytest.fixture(scope="module")
def http(audio_mesh: Mesh) -> Iterator[httpx.Client]:
    with audio_mesh.http() as opened:
        yield opened


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Three seconds as a WAV file."""
    written = io.BytesIO()
    tone = np.sin(np.arange(3 * 16_000) / 20).astype(np.float32)
    soundfile.write(written, tone, 16_000, format="WAV", subtype="PCM_16")
    return written.getvalue()


def heard(sound: bytes, task: str = "transcribe") -> str:
    return "".join(texts_of(sound, SEGMENTS, task=task)).strip()


def ask(http: httpx.Client, *parts: tuple[str, Any], path: str = "transcriptions") -> httpx.Response:
    return http.post(f"/v1/audio/{path}", files=list(parts))


def field(name: str, value: str) -> tuple[str, tuple[None, str]]:
    return name, (None, value)


def error(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()["error"]
    assert found.keys() == {"message", "type", "param", "code"}
    return found


def test_json_is_the_usual_answer(client: openai.OpenAI, sound: bytes) -> None:
    answer = client.audio.transcriptions.with_raw_response.create(model="ears", file=("a.wav", sound))
    parsed = answer.parse()
    assert parsed.text == heard(sound)
    assert parsed.usage is not None
    assert parsed.usage.type == "duration"
    assert parsed.usage.seconds == 4  # 3.001 s, as every second that has begun counts
    assert answer.headers["x-infermesh-device"] == "cpu"
    assert answer.headers["x-infermesh-endpoint"]
    assert answer.headers["x-infermesh-reason"]


def test_text_and_subtitles(client: openai.OpenAI, sound: bytes) -> None:
    def written(form: Any) -> str:
        answer: Any = client.audio.transcriptions.create(model="ears", file=sound, response_format=form)
        assert isinstance(answer, str)
        return answer

    lines = [text.strip() for text in texts_of(sound, SEGMENTS)]
    assert written("text") == heard(sound) + "\n"
    assert written("srt") == "".join(
        f"{i + 1}\n00:00:0{2 * i},000 --> 00:00:0{2 * i + 2},000\n{line}\n\n" for i, line in enumerate(lines)
    )
    assert written("vtt") == "WEBVTT\n\n" + "".join(
        f"00:00:0{2 * i}.000 --> 00:00:0{2 * i + 2}.000\n{line}\n\n" for i, line in enumerate(lines)
    )


def test_verbose_json_has_segments_words_and_language(client: openai.OpenAI, sound: bytes) -> None:
    answer = client.audio.transcriptions.create(
        model="ears", file=sound, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert (answer.text, answer.language) == (heard(sound), "english")
    assert answer.duration == pytest.approx(len(sound) / 32_000)
    assert answer.segments is not None
    assert answer.words is not None
    first = answer.segments[0]
    assert (first.id, first.start, first.end, first.seek) == (0, 0.0, 2.0, 0)
    assert (first.avg_logprob, first.compression_ratio, first.no_speech_prob) == (-0.25, 1.5, 0.125)
    assert [word.word for word in answer.words] == heard(sound).split()
    assert answer.words[1].start == 0.5
    only_segments = client.audio.transcriptions.create(
        model="ears", file=sound, response_format="verbose_json", language="de"
    )
    assert (only_segments.language, only_segments.words) == ("german", None)
    only_words = client.audio.transcriptions.create(
        model="ears", file=sound, response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert only_words.segments is None


def test_events_come_as_segments_do(client: openai.OpenAI, sound: bytes) -> None:
    *deltas, done = client.audio.transcriptions.create(model="ears", file=sound, stream=True)
    assert len(deltas) == SEGMENTS
    assert "".join(event.delta for event in deltas if event.type == "transcript.text.delta") == heard(sound)
    assert done.type == "transcript.text.done"
    assert done.text == heard(sound)
    assert done.usage is not None
    assert (done.usage.type, done.usage.output_tokens) == ("tokens", 4 * SEGMENTS)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_translations(client: openai.OpenAI, sound: bytes) -> None:
    assert client.audio.translations.create(model="ears", file=sound).text == heard(sound, "translate")
    verbose: Any = client.audio.translations.create(model="ears", file=sound, response_format="verbose_json")
    assert (verbose.language, verbose.task) == ("english", "translate")


def test_a_large_file_is_read_in_another_process(client: openai.OpenAI) -> None:
    large = bytes(range(256)) * 40_000
    assert client.audio.transcriptions.create(model="ears", file=large).text == heard(large)


def test_without_a_model_the_only_one_of_its_kind_answers(http: httpx.Client, sound: bytes) -> None:
    answer = ask(http, ("file", ("a.wav", sound)), field("model", "")).raise_for_status()
    assert answer.json()["text"] == heard(sound)


def test_the_deployment_in_a_path_of_azure_names_the_model(http: httpx.Client, sound: bytes) -> None:
    path = "/openai/deployments/ears/audio/transcriptions?api-version=1"
    answer = http.post(path, files={"file": ("a.wav", sound)}).raise_for_status()
    assert answer.json()["text"] == heard(sound)


def test_fields_without_an_effect_are_named(http: httpx.Client, sound: bytes) -> None:
    answer = ask(http, ("file", ("a.wav", sound)), field("chunking_strategy", "auto"), field("colour", "red"))
    assert answer.raise_for_status().headers["x-infermesh-ignored-fields"] == "colour,chunking_strategy"
    answer = ask(http, ("file", ("a.wav", sound)), field("timestamp_granularities[]", "word"))
    assert answer.raise_for_status().headers["x-infermesh-ignored-fields"] == "timestamp_granularities"


@pytest.mark.parametrize(
    ("parts", "param", "words"),
    [
        ([], "file", "is required"),
        ([field("file", "text")], "file", "must be a file, with a filename"),
        ([("file", ("a", b"x")), ("file", ("b", b"y"))], "file", "must be one file, not 2"),
        ([("file", ("a", b""))], "file", "must not be empty"),
        ([("file", ("a", b"x")), ("model", ("m", b"ears"))], "model", "must not be a file"),
        ([("file", ("a", b"x")), field("model", "ears"), field("model", "b")], "model", "must be given once"),
        ([("file", ("a", b"x")), field("temperature", "warm")], "temperature", "must be a valid number"),
        ([("file", ("a", b"x")), field("temperature", "nan")], "temperature", "must be a finite number"),
        ([("file", ("a", b"x")), field("temperature", "2")], "temperature", "less than or equal to 1"),
        ([("file", ("a", b"x")), field("response_format", "docx")], "response_format", "'json', 'text', 'srt'"),
        ([("file", ("a", b"x")), field("stream", "maybe")], "stream", "must be a valid boolean"),
        (
            [("file", ("a", b"x")), field("stream", "true"), field("response_format", "srt")],
            "stream",
            "cannot be true with the response_format 'srt'",
        ),
        (
            [("file", ("a", b"x")), field("timestamp_granularities[]", "line")],
            "timestamp_granularities[0]",
            "'word' or 'segment'",
        ),
        ([("file", ("a", b"x")), field("include[]", "logprobs")], "include", "is not supported by this server"),
        ([("file", ("a", b"x")), ("prompt", (None, b"\xff\xfe"))], "prompt", "must be text in UTF-8"),
        ([("file", ("a", BAD))], "file", "cannot be read as WAV, FLAC, MP3 or OGG"),
        ([("file", ("a", b"x")), field("language", "x" * 300)], "language", "at most 256 characters"),
    ],
)
def test_what_a_form_may_not_have_is_refused_by_name(
    http: httpx.Client, parts: list[Any], param: str, words: str
) -> None:
    found = error(ask(http, *(parts or [field("model", "ears")])))
    assert found["param"] == param
    assert words in found["message"]
    assert "audio:" not in found["message"]


def test_broken_forms_are_refused(http: httpx.Client, sound: bytes) -> None:
    whole = httpx.Request("POST", "http://x", files={"file": ("a.wav", sound)})
    body, headers = whole.read(), {"content-type": whole.headers["content-type"]}
    for content in (body[: len(body) // 2], body[:-4], body[:30], b"", body.replace(b"\r\n", b"\n"), b"--x"):
        found = error(http.post("/v1/audio/transcriptions", content=content, headers=headers))
        assert found["code"] in ("invalid_form", "missing_required_parameter")
    for other in ("application/json", "multipart/form-data", "text/plain; boundary=x", ""):
        found = error(http.post("/v1/audio/transcriptions", content=body, headers={"content-type": other}))
        assert (found["param"], found["message"]) == ("file", "'file' must be sent as multipart/form-data.")
    many = [field(f"f{index}", "x") for index in range(101)]
    assert "at most 100 parts" in error(ask(http, *many))["message"]


def test_files_that_are_too_large_are_refused(http: httpx.Client) -> None:
    assert error(ask(http, ("file", ("a.wav", bytes(65 << 20)))), 413)["code"] == "request_too_large"


def test_models_of_other_kinds_are_refused_by_name(client: openai.OpenAI, sound: bytes) -> None:
    with pytest.raises(openai.BadRequestError, match="'mouth' turns text into speech"):
        client.audio.transcriptions.create(model="mouth", file=sound)
    with pytest.raises(openai.BadRequestError, match="'ears' turns speech into text"):
        client.audio.speech.create(model="ears", input="a", voice="ada")
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.audio.transcriptions.create(model="nobody", file=sound)


def test_voices_and_models_are_listed(http: httpx.Client) -> None:
    listed = http.get("/v1/audio/voices").raise_for_status().json()["voices"]
    assert [(each["id"], each["model"]) for each in listed] == [(voice, "mouth") for voice in VOICES]
    assert http.get("/v1/audio/voices?model=ears").raise_for_status().json()["voices"] == []
    assert len(http.get("/audio/voices?model=mouth").raise_for_status().json()["voices"]) == 2
    assert error(http.get("/v1/audio/voices?model=nobody"), 404)["param"] == "model"
    models = http.get("/v1/audio/models").raise_for_status().json()["models"]
    assert [(each["id"], each["kind"]) for each in models] == [("ears", "transcribe"), ("mouth", "speak")]


def test_the_api_is_described(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").raise_for_status().json()["paths"]
    form = paths["/v1/audio/transcriptions"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "model", "timestamp_granularities[]"} <= form["properties"].keys()
    assert "audio/mpeg" in paths["/v1/audio/speech"]["post"]["responses"]["200"]["content"]
    assert paths["/v1/audio/speech"]["post"]["requestBody"]["content"]["application/json"]
