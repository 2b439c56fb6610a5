"""Describes speech for /openapi.json."""

from collections.abc import Mapping
from typing import Any

from infermesh_router.audio.encoders import CONTENT_TYPES
from infermesh_router.audio.schema import AUDIO_FORMS, LISTS
from infermesh_router.description.api import EVENTS, JSON
from infermesh_router.requests.form import FORM

_TEXT_TYPES = (JSON, "text/plain", "text/vtt", EVENTS)
AUDIO_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "CreateTranscription": _TEXT_TYPES,
    "CreateTranslation": _TEXT_TYPES,
    "CreateSpeech": (*CONTENT_TYPES.values(), EVENTS),
}
"""The content types of the answers."""


def _form(name: str) -> dict[str, Any]:
    """A form in OpenAPI's words: the schema that parses it, with its file."""
    schema = AUDIO_FORMS[name].model_json_schema()
    fields = {f"{key}[]" if key in LISTS else key: value for key, value in schema["properties"].items()}
    properties = {"file": {"type": "string", "format": "binary"}, **fields}
    return {FORM: {"schema": {"type": "object", "required": ["file"], "properties": properties}}}


AUDIO_SENT: Mapping[str, Mapping[str, Any]] = {name: _form(name) for name in AUDIO_FORMS}
"""The forms that calls take."""
