"""Owns the SDK's public names. Imports them on first use: the command and the tether start without gRPC."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infermesh_client.aio import AsyncClient
    from infermesh_client.client import Client
    from infermesh_client.request import Event, GenerateOptions, Message, Prompt

__all__ = ["AsyncClient", "Client", "Event", "GenerateOptions", "Message", "Prompt"]


def __getattr__(name: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - lazy on purpose

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"AsyncClient": "aio", "Client": "client"}.get(name, "request")
    return getattr(import_module(f"{__name__}.{module}"), name)
