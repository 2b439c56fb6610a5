"""The public names of the Python SDK, imported on first use so that the command starts without loading gRPC."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infermesh_client.aio import AsyncClient
    from infermesh_client.answer import Answer, ToolCall
    from infermesh_client.client import Client
    from infermesh_client.request import ChatMessage, Event, GenerateOptions, Prompt

__all__ = ["Answer", "AsyncClient", "ChatMessage", "Client", "Event", "GenerateOptions", "Prompt", "ToolCall"]


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - lazy on purpose

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"Answer": "answer", "AsyncClient": "aio", "Client": "client", "ToolCall": "answer"}.get(name, "request")
    return getattr(import_module(f"{__name__}.{module}"), name)
