"""Says what the command `infermesh` lacks here, to itself and to a worker that would import models with it."""

from collections.abc import Sequence
from importlib.util import find_spec

_NEEDED = ("gguf", "httpx", "huggingface_hub", "pydantic_settings", "rich", "supervisor", "typer")
"""Modules of the extra `command` of infermesh-client without which no subcommand starts."""


def missing_modules() -> Sequence[str]:
    """The modules without which the command does not start, and which are not installed."""
    return [name for name in _NEEDED if find_spec(name) is None]
