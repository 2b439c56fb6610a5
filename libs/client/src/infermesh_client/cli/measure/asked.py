"""Reads from the command line of `infermesh compare` which model to ask, and what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.chat.chat_model import choose_model
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.client import Client
from infermesh_runtime.compare_prompts import COMPARE_PROMPTS
from infermesh_runtime.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The words of the command line; empty or None for what it does not say."""

    words: Sequence[str]
    """A model and a prompt, or one of them."""
    model: str = ""
    """By the option --model."""
    prompts_file: Path | None = None


def split_words(asked: Asked, models: Sequence[str]) -> tuple[str, str | None]:
    """The model, empty for a default one, and the prompt, None for ours. Raises InvalidArgument.

    A single word is a model, so that a mistyped name is not sent as a question.
    """
    match list(asked.words):
        case [name, prompt] if not asked.model:
            return name, prompt
        case [_, _]:
            raise InvalidArgument("name the model once: as the first word, or by --model")
        case [word] if not asked.model and (word in models or len(word.split()) == 1):
            return word, None
        case [prompt]:
            return asked.model, prompt
        case _:
            return asked.model, None


def read_prompts(prompt: str | None, path: Path | None) -> Sequence[str]:
    """The prompts to ask: the one given, the lines of the file, or ours. Raises InvalidArgument."""
    if prompt is not None and path is not None:
        raise InvalidArgument("give a prompt or --prompts FILE, not both")
    if prompt is not None:
        lines = [prompt]
    elif path is not None:
        try:
            lines = path.expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"the file of prompts cannot be read: {error}") from None
    else:
        return COMPARE_PROMPTS
    if not (asked := [line.strip() for line in lines if line.strip()]):
        raise InvalidArgument("there is no prompt to ask; a file of prompts has one a line")
    return asked


def settle(client: Client, asked: Asked, home_model: str, console: SafeConsole) -> tuple[str, Sequence[str]]:
    """The model and the prompts. Raises InvalidArgument, and Unavailable if there is no model to choose."""
    model, prompt = split_words(asked, _names(client.health()) if len(asked.words) == 1 else ())
    prompts = read_prompts(prompt, asked.prompts_file)
    return choose_model(client, model, home_model=home_model, console=console), prompts


def _names(report: inference_pb2.HealthReport) -> Sequence[str]:
    return [*(model.name for model in report.models), *(model.name for model in report.available)]
