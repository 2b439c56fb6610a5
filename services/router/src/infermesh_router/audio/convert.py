"""Converts forms and bodies about speech to calls. Its functions run in other processes for large ones."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.schema import LISTS, SoundFormat, SpeechBody, TextFormat, TranscriptionForm, TranslationForm
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import AskedCall
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.packed_body import read_body
from infermesh_router.openai.parse import Parsed, parse_body, parse_document
from infermesh_router.requests.form import FORM, INVALID_FORM, Part, read_form
from infermesh_router.requests.kinds.sound import read_speak, read_transcribe
from infermesh_router.texts.schema import list_hints
from infermesh_runtime.errors import InvalidArgument

_MISSING = "MISSING_REQUIRED_PARAMETER"
_FILE = "file"
_MOST_VALUE_BYTES = 256 * 1024
"""Of a field that is no file."""
_TEXT_STREAMS = frozenset({"json", "text"})
"""Formats of an answer that may come as events."""

FormT = TypeVar("FormT", bound=TranscriptionForm)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextAnswer:
    """How the text of speech is written."""

    format: TextFormat
    stream: bool
    task: str
    """As answers call it: "transcribe" or "translate"."""
    segments: bool
    """Whether verbose_json has segments, and words."""
    words: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundAnswer:
    """How speech is written."""

    format: SoundFormat
    events: bool
    """Whether it comes as server-sent events."""


def convert_transcription(body: bytes, content_type: str, rules: BodyRules, model: str) -> AskedCall:
    """Converts a form of /v1/audio/transcriptions. Raises InvalidArgument."""
    return _convert_form(TranscriptionForm, body, content_type, rules, model)


def convert_translation(body: bytes, content_type: str, rules: BodyRules, model: str) -> AskedCall:
    """Converts a form of /v1/audio/translations. Raises InvalidArgument."""
    return _convert_form(TranslationForm, body, content_type, rules, model)


def convert_speech(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /v1/audio/speech. Raises InvalidArgument."""
    check = partial(check_document, model=model)
    parsed = parse_body(SpeechBody, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    body = parsed.request
    made = pb.SpeakRequest(
        model=body.model,
        text=body.input,
        voice=(body.voice if isinstance(body.voice, str) else body.voice.id) if body.voice else "",
        speed=body.speed,
        language=body.language or "",
        device=body.device or "",
        priority=-(body.priority or 0),
    )
    answer = SoundAnswer(format=body.response_format or "mp3", events=body.stream_format == "sse")
    return AskedCall(read_speak(made.SerializeToString()), _ignored(parsed), answer)


def _convert_form(schema: type[FormT], message: bytes, content_type: str, rules: BodyRules, model: str) -> AskedCall:
    body = read_body(message)
    if len(body) > rules.max_bytes:
        problem = f"The form has {len(body)} bytes; at most {rules.max_bytes} are allowed."
        raise InvalidArgument(problem, reason="REQUEST_TOO_LARGE")
    parts = read_form(body, content_type)
    del body  # as parts and sound are below: a request is in memory no more often than `ARRIVING_COPIES` counts
    if parts is None:
        raise invalid(_FILE, f"must be sent as {FORM}")
    sound, document = _take_file(parts), _document([part for part in parts if part.name != _FILE])
    del parts
    check_document(document, model)
    parsed = parse_document(schema, document, ignore_unknown=rules.ignore_unknown)
    form = parsed.request
    answer = _text_answer(form)
    made = pb.TranscribeRequest(
        model=form.model,
        audio=sound,
        device=form.device or "",
        priority=-(form.priority or 0),
        task=pb.SPEECH_TASK_TRANSLATE if answer.task == "translate" else pb.SPEECH_TASK_TRANSCRIBE,
        language=form.language or "",
        prompt=form.prompt or "",
        temperature=form.temperature,
        times=pb.SPEECH_TIMES_WORDS if answer.words else pb.SPEECH_TIMES_SEGMENTS,
        seed=secrets.randbits(63) if form.seed is None else form.seed,
    )
    del sound
    ignored = _ignored(parsed)
    if form.timestamp_granularities and form.response_format != "verbose_json":
        ignored = (*ignored, "timestamp_granularities")
    return AskedCall(read_transcribe(made.SerializeToString()), ignored, answer)


def _text_answer(form: TranscriptionForm) -> TextAnswer:
    if form.stream and form.response_format not in _TEXT_STREAMS:
        raise invalid(
            "stream", f"cannot be true with the response_format {form.response_format!r}; use 'json' or 'text'"
        )
    verbose, wanted = form.response_format == "verbose_json", form.timestamp_granularities
    return TextAnswer(
        format=form.response_format,
        stream=form.stream,
        task="translate" if isinstance(form, TranslationForm) else "transcribe",
        segments=verbose and (not wanted or "segment" in wanted),
        words=verbose and "word" in wanted,
    )


def _take_file(parts: Sequence[Part]) -> bytes:
    """The content of the only file. Raises InvalidArgument."""
    files = [part for part in parts if part.name == _FILE]
    if not files:
        raise invalid(_FILE, "is required", reason=_MISSING)
    if len(files) > 1:
        raise invalid(_FILE, f"must be one file, not {len(files)}")
    if files[0].filename is None:
        raise invalid(_FILE, "must be a file, with a filename in its content-disposition")
    if not files[0].data:
        raise invalid(_FILE, "must not be empty")
    return bytes(files[0].data)


def _document(parts: Sequence[Part]) -> dict[str, Any]:
    """The fields of a form by their names. Empty ones count as absent, as they do in web pages' forms."""
    document: dict[str, Any] = {}
    for part in parts:
        name, value = part.name.removesuffix("[]"), _text(part)
        if not name:
            raise InvalidArgument("A part of the form has no name.", reason=INVALID_FORM)
        if name in LISTS:
            document.setdefault(name, []).extend([value] if value else [])
        elif name in document:
            raise invalid(name, "must be given once")
        elif value:
            document[name] = value
    return document


def _text(part: Part) -> str:
    if part.filename is not None:
        raise invalid(part.name, "must not be a file: the sound is in 'file'")
    if len(part.data) > _MOST_VALUE_BYTES:
        raise invalid(part.name, f"must have at most {_MOST_VALUE_BYTES} bytes")
    try:
        return part.data.decode()
    except UnicodeDecodeError:
        raise invalid(part.name, "must be text in UTF-8") from None


def _ignored(parsed: "Parsed[Any]") -> tuple[str, ...]:
    return (*parsed.ignored, *list_hints(parsed.request, parsed.request.HINTS))
