"""Runs `infermesh transcribe` and `infermesh speak`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.waiting import waiting_line
from infermesh_client.speech_request import Segment, Speech, Transcript
from infermesh_client.told import printable
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.subtitles import VTT_HEAD, srt_cue, vtt_cue

_STDIN = "-"


def run_transcribe(file: Path, format_: str, *, model: str, options: Mapping[str, Any], endpoint: str | None) -> None:
    """Prints the text of a sound file as its segments come; JSON at the end. Raises InfermeshError."""
    settings, _ = load_settings()
    transcript = Transcript()
    waiting = waiting_line(error_console(), f"Listening to {file.name}")
    with connect(endpoint, settings, timeout_s=None) as client, waiting as line:
        for segment in client.transcribe_segments(file, model=model, into=transcript, **options):
            line.stop()
            text = _shown(segment, format_)
            sys.stdout.write(printable(text))
            sys.stdout.flush()
    if format_ == "json":
        print(printable(json.dumps(_document(transcript), ensure_ascii=False)))
    elif format_ == "text":
        print()
    elif format_ == "vtt" and not transcript.segments:
        print(VTT_HEAD, end="")


def run_speak(text: str, output: Path, *, model: str, options: Mapping[str, Any], endpoint: str | None) -> None:
    """Saves the sound of a text as a WAV file. Raises InfermeshError."""
    if output.suffix.lower() != ".wav":
        raise InvalidArgument(f"--output {output}: the sound is saved as a .wav file")
    said = sys.stdin.read() if text == _STDIN else text
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client, waiting_line(error_console(), "Speaking"):
        speech: Speech = client.speak(said, model=model, **options)
    try:
        speech.save(output)
    except OSError as error:
        raise InvalidArgument(f"--output {output}: cannot be written: {error.strerror or error}") from error
    print(f"{output}: {speech.finished.duration_s:.1f} s of speech")


def _shown(segment: Segment, format_: str) -> str:
    times = segment.start_s, segment.end_s, segment.text
    match format_:
        case "text":
            return segment.text if segment.index else segment.text.lstrip()
        case "srt":
            return srt_cue(segment.index + 1, *times)
        case "vtt":
            return ("" if segment.index else VTT_HEAD) + vtt_cue(*times)
    return ""


def _document(transcript: Transcript) -> dict[str, Any]:
    """All that the model tells, with the contract's names of fields."""
    finished = transcript.finished
    return {
        "text": transcript.text,
        "language": finished.language,
        "duration_s": finished.duration_s,
        "segments": [_plain(segment) for segment in transcript.segments],
    }


def _plain(segment: Segment) -> dict[str, Any]:
    return MessageToDict(segment, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
