"""What a request tells a chat template beside the conversation, and which of it the template does not take."""

from collections.abc import Mapping
from typing import Any

from infermesh.inference.v1.inference_pb2 import ChatPrompt, GenerateRequest
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.models.templates.bounded_template import BoundedTemplate

_REASONING = "reasoning_content"


def hinted_variables(chat: ChatPrompt, template: BoundedTemplate, given: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a template: those that the request gives, and its hints as far as the template takes them."""
    hints = {name: value for name, value in _hints(chat).items() if template.takes(name)}
    return {**hints, **given}


def takes_reasoning(template: BoundedTemplate) -> bool:
    """Whether the template shows the reasoning before an earlier answer."""
    return template.takes(_REASONING)


def ignored_fields(request: GenerateRequest, model: OpenedModel) -> list[str]:
    """The paths of the request's fields that its model's template does not take."""
    chat, template = request.chat, model.chat_template
    if request.WhichOneof("prompt") != "chat" or template is None:
        return []
    ignored = [f"chat.{name}" for name in _asked(chat) if not any(template.takes(each) for each in _ways(chat, name))]
    if not takes_reasoning(template) and any(message.reasoning_content for message in chat.messages):
        ignored.append(f"chat.messages[].{_REASONING}")
    return ignored


def _hints(chat: ChatPrompt) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    if chat.reasoning_effort:
        hints["reasoning_effort"] = chat.reasoning_effort
    if chat.verbosity:
        hints["verbosity"] = chat.verbosity
    if chat.HasField("enable_thinking"):
        hints["enable_thinking"] = chat.enable_thinking
    elif chat.reasoning_effort == "none":
        hints["enable_thinking"] = False
    return hints


def _asked(chat: ChatPrompt) -> list[str]:
    """The hints that the request itself names."""
    names = [name for name in ("reasoning_effort", "verbosity") if getattr(chat, name)]
    return [*names, "enable_thinking"] if chat.HasField("enable_thinking") else names


def _ways(chat: ChatPrompt, name: str) -> tuple[str, ...]:
    """The variables through which a template may take a hint."""
    turned_off = name == "reasoning_effort" and chat.reasoning_effort == "none"
    return (name, "enable_thinking") if turned_off else (name,)
