"""The public names of the Python SDK, imported on first use so that the command starts without loading gRPC."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infermesh_client.aio import AsyncClient
    from infermesh_client.answer import Answer, ToolCall
    from infermesh_client.client import Client
    from infermesh_client.image_parts import image_part
    from infermesh_client.request import ChatMessage, Event, GenerateOptions, Prompt
    from infermesh_client.smart.aio import smart_chat
    from infermesh_client.smart.answer import FunctionCall, SmartAnswer, Timings
    from infermesh_client.smart.sync import smart_chat_sync
    from infermesh_client.speech_request import Speech, Transcript

__all__ = [
    "Answer",
    "AsyncClient",
    "ChatMessage",
    "Client",
    "Event",
    "FunctionCall",
    "GenerateOptions",
    "Prompt",
    "SmartAnswer",
    "Speech",
    "Timings",
    "ToolCall",
    "Transcript",
    "image_part",
    "smart_chat",
    "smart_chat_sync",
]

_MODULES = {
    "Answer": "answer",
    "AsyncClient": "aio",
    "Client": "client",
    "FunctionCall": "smart.answer",
    "SmartAnswer": "smart.answer",
    "Speech": "speech_request",
    "Timings": "smart.answer",
    "ToolCall": "answer",
    "Transcript": "speech_request",
    "image_part": "image_parts",
    "smart_chat": "smart.aio",
    "smart_chat_sync": "smart.sync",
}
"""Where names are that are not in `request`."""


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - lazy on purpose

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'request')}"), name)
