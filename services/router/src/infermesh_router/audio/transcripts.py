"""Writes the text of speech in the formats of OpenAI's API."""

import math
from collections.abc import Sequence
from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.convert import TextAnswer
from infermesh_router.audio.languages import language_name
from infermesh_router.openai.answerer import JSON
from infermesh_router.openai.answers.chunks import data_event, failovers_member
from infermesh_router.requests.float32 import shorten
from infermesh_runtime.subtitles import VTT_HEAD, srt_cue, vtt_cue

_PLAIN, _VTT = "text/plain; charset=utf-8", "text/vtt; charset=utf-8"
_SEEK_RATE = 100
"""Frames a second in which `seek` counts."""


def transcript(
    answer: TextAnswer, segments: Sequence[pb.SpeechSegment], finished: pb.TranscribeFinished
) -> tuple[str, bytes]:
    """The content type and the body of a whole answer."""
    match answer.format:
        case "text":
            return _PLAIN, f"{text_of(segments)}\n".encode()
        case "srt":
            cues = (srt_cue(at, each.start_s, each.end_s, each.text) for at, each in enumerate(segments, 1))
            return _PLAIN, "".join(cues).encode()
        case "vtt":
            cues = (vtt_cue(each.start_s, each.end_s, each.text) for each in segments)
            return _VTT, (VTT_HEAD + "".join(cues)).encode()
        case "verbose_json":
            body = _verbose(answer, segments, finished)
        case "json":
            body = {"text": text_of(segments)}
    body["usage"] = {"type": "duration", "seconds": math.ceil(finished.duration_s)}
    return JSON, orjson.dumps(body | failovers_member(finished.failovers))


def text_of(segments: Sequence[pb.SpeechSegment]) -> str:
    """The text of all segments."""
    return "".join(segment.text for segment in segments).strip()


def delta_event(segment: pb.SpeechSegment, *, first: bool) -> bytes:
    """The event that tells a segment."""
    text = segment.text.lstrip() if first else segment.text
    return data_event({"type": "transcript.text.delta", "delta": text})


def done_event(segments: Sequence[pb.SpeechSegment], finished: pb.TranscribeFinished) -> bytes:
    """The event that tells the end."""
    usage = finished.usage
    tokens = {
        "type": "tokens",
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
    event = {"type": "transcript.text.done", "text": text_of(segments), "usage": tokens}
    return data_event(event | failovers_member(finished.failovers))


def _verbose(
    answer: TextAnswer, segments: Sequence[pb.SpeechSegment], finished: pb.TranscribeFinished
) -> dict[str, Any]:
    language = "english" if answer.task == "translate" else language_name(finished.language)
    body: dict[str, Any] = {
        "task": answer.task,
        "language": language,
        "duration": finished.duration_s,
        "text": text_of(segments),
    }
    if answer.segments:
        body["segments"] = [_segment(segment) for segment in segments]
    if answer.words:
        body["words"] = [
            {"word": word.text.strip(), "start": _time(word.start_s), "end": _time(word.end_s)}
            for segment in segments
            for word in segment.words
        ]
    return body


def _segment(segment: pb.SpeechSegment) -> dict[str, Any]:
    return {
        "id": segment.index,
        "seek": round(segment.start_s * _SEEK_RATE),
        "start": _time(segment.start_s),
        "end": _time(segment.end_s),
        "text": segment.text,
        "tokens": list(segment.token_ids),
        "temperature": shorten(segment.temperature),
        "avg_logprob": shorten(segment.mean_logprob),
        "compression_ratio": shorten(segment.compression_ratio),
        "no_speech_prob": shorten(segment.no_speech_prob),
    }


def _time(seconds: float) -> float:
    return round(seconds, 3)
