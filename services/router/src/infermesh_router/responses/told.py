"""What a response repeats of its request, and what the router keeps of it."""

import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from infermesh_router.responses.schema import Format, JsonSchemaFormat, ResponseRequest
from infermesh_router.responses.store.kept import KeptItem
from infermesh_router.responses.tools import FunctionTool

_ID_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the answer needs of the body. It can be sent to another process."""

    members: dict[str, Any]
    """The members of the response that the request decides."""
    items: tuple[KeptItem, ...] = ()
    """The input items as the router keeps them; empty if it is not to keep them."""
    previous: str | None = None
    keeps: bool = True
    """Whether the response is to be kept."""
    asks_to_keep: bool = False
    """Whether the request says so itself."""
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class References:
    """What a body refers to; the router must look it up before it can make a job of the body."""

    previous: str | None
    """The response that comes before."""
    items: tuple[str, ...]
    """Ids of items."""


def new_item_id(kind: str) -> str:
    """A new id for an item of this type."""
    return f"{_ID_PREFIXES[kind]}_{uuid.uuid4().hex}"


def kept_item(item: dict[str, Any]) -> KeptItem:
    """The item as the router keeps it, with an id if it has none."""
    item_id = item.get("id") or new_item_id(item["type"])
    return KeptItem(id=item_id, body=orjson.dumps({"id": item_id, **item}))


def told_members(request: ResponseRequest) -> dict[str, Any]:
    """What the response repeats; where the request says nothing, the defaults of OpenAI."""
    text, reasoning = request.text, request.reasoning
    return {
        "background": False,
        "frequency_penalty": request.frequency_penalty or 0.0,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "max_tool_calls": request.max_tool_calls,
        "metadata": request.metadata or {},
        "model": request.model,
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "presence_penalty": request.presence_penalty or 0.0,
        "previous_response_id": request.previous_response_id,
        "prompt_cache_key": request.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "safety_identifier": request.safety_identifier,
        "service_tier": "default",
        "temperature": request.temperature,
        "text": {
            "format": _format(text.format if text else None),
            "verbosity": (text and text.verbosity) or "medium",
        },
        "tool_choice": _tool_choice(request),
        "tools": [tool.shown() for tool in request.tools or () if isinstance(tool, FunctionTool)],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": request.truncation or "disabled",
        "user": request.user,
    }


def _tool_choice(request: ResponseRequest) -> Any:
    choice = request.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return choice.model_dump()


def _format(wanted: Format | None) -> dict[str, Any]:
    if wanted is None:
        return {"type": "text"}
    shown = wanted.model_dump(by_alias=True)
    if isinstance(wanted, JsonSchemaFormat):
        return shown | {"strict": bool(wanted.strict)}
    return {name: value for name, value in shown.items() if value is not None}
