"""Lists the fields of a body that are accepted and have no effect."""

from collections.abc import Iterator, Mapping

from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.fields import Strict
from infermesh_router.openai.schema.messages import ImagePart, Message, TextPart
from infermesh_router.openai.schema.shared import SamplingRequest
from infermesh_router.openai.schema.tools import Tool


def list_hints(request: SamplingRequest) -> tuple[str, ...]:
    """The paths of hints that were set to something else than their default. "[]" stands for any index."""
    hints = _hints(request, request.HINTS)
    if not isinstance(request, ChatRequest):
        return tuple(hints)
    found = dict.fromkeys(hints)
    for tool in request.tools or ():
        found.update(dict.fromkeys(f"tools[].{name}" for name in _hints(tool, Tool.HINTS)))
    for message in request.messages:
        found.update(dict.fromkeys(f"messages[].{name}" for name in _hints(message, Message.HINTS)))
        if isinstance(message.content, list):
            parts = (part for part in message.content if isinstance(part, TextPart | ImagePart))
            names = (name for part in parts for name in _hints(part, part.HINTS))
            found.update(dict.fromkeys(f"messages[].content[].{name}" for name in names))
    return tuple(found)


def _hints(value: Strict, neutral: Mapping[str, tuple[object, ...]]) -> Iterator[str]:
    for name in value.model_fields_set & neutral.keys():
        given = getattr(value, name)
        if given is not None and given not in neutral[name]:
            yield name
