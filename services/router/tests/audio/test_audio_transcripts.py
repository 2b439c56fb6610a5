"""Texts of speech in each format."""

import re

import orjson
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.convert import TextAnswer
from infermesh_router.audio.languages import LANGUAGES, language_name
from infermesh_router.audio.schema import TextFormat
from infermesh_router.audio.transcripts import transcript
from infermesh_router.testing.speech import segment

FINISHED = pb.TranscribeFinished(language="yue", duration_s=3.25)


def written(format_: TextFormat, *segments: pb.SpeechSegment, task: str = "transcribe") -> str:
    answer = TextAnswer(format=format_, stream=False, task=task, segments=True, words=True)
    return transcript(answer, segments, FINISHED)[1].decode()


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [(0.0, "00:00:00.000"), (0.9996, "00:00:01.000"), (59.9999, "00:01:00.000"), (3600 * 101 + 61.5, "101:01:01.500")],
)
def test_times_are_rounded_as_a_whole(seconds: float, clock: str) -> None:
    shown = written("vtt", pb.SpeechSegment(text=" a", start_s=seconds, end_s=seconds))
    assert shown == f"WEBVTT\n\n{clock} --> {clock}\na\n\n"
    assert written("srt", pb.SpeechSegment(text=" a", start_s=seconds, end_s=seconds)) == (
        f"1\n{clock} --> {clock}\na\n\n".replace(".", ",")
    )


def test_the_text_of_a_cue_cannot_end_it() -> None:
    cue = written("srt", pb.SpeechSegment(text=" one\n\n 00:00 --> two \r\n", end_s=1))
    assert cue == "1\n00:00:00,000 --> 00:00:01,000\none\n00:00 -> two\n\n"


def test_silence_has_no_text() -> None:
    assert (written("text"), written("srt"), written("vtt")) == ("\n", "", "WEBVTT\n\n")
    body = orjson.loads(written("verbose_json"))
    assert (body["text"], body["segments"], body["words"], body["duration"]) == ("", [], [], 3.25)


def test_verbose_json_shows_every_value_of_a_segment() -> None:
    body = orjson.loads(written("verbose_json", segment(0), segment(1)))
    assert body["segments"][1] == {
        "id": 1,
        "seek": 100,
        "start": 1.0,
        "end": 1.875,
        "text": " two,",
        "tokens": [1, 7],
        "temperature": 0.0,
        "avg_logprob": -0.5,
        "compression_ratio": 1.25,
        "no_speech_prob": 0.125,
    }
    assert body["words"][1] == {"word": "two,", "start": 1.25, "end": 1.75}
    assert (body["task"], body["language"], body["usage"]) == (
        "transcribe",
        "cantonese",
        {"type": "duration", "seconds": 4},
    )
    assert orjson.loads(written("verbose_json", task="translate"))["language"] == "english"


def test_numbers_have_the_digits_that_they_had() -> None:
    body = orjson.loads(written("verbose_json", pb.SpeechSegment(mean_logprob=-0.1, end_s=0.1 + 0.2)))
    assert (body["segments"][0]["avg_logprob"], body["segments"][0]["end"]) == (-0.1, 0.3)


def test_languages_have_names() -> None:
    assert len(LANGUAGES) == 100
    assert all(re.fullmatch("[a-z]{2,3}", code) for code in LANGUAGES)
    assert (language_name("en"), language_name("HT"), language_name("xx")) == ("english", "haitian creole", "xx")
