"""Chooses the model that `infermesh chat` asks when the user names none."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from infermesh.inference.v1 import inference_pb2
from infermesh_client.client import Client
from infermesh_runtime.errors import FailedPrecondition, Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A model that could answer."""

    name: str
    ready: bool
    """Whether it is loaded; otherwise a question loads it."""
    size_bytes: int = 0


def choose_model(client: Client, wanted: str, *, home_model: str, console: Console) -> str:
    """The name of the model to ask. Asks the user if there are several and stdin is a terminal.

    `wanted` is the name that the user gave, `home_model` the one that the mesh was started with; both may be empty.
    Raises FailedPrecondition for a base model, and Unavailable when there is no model.
    """
    report = client.health()
    if wanted:
        _check_chats(report, wanted)
        return wanted
    models = list_chat_models(report, home_model)
    if not models:
        why = f": {report.message}" if report.message else "; `infermesh models import` adds one"
        raise Unavailable(f"no model that chats is served{why}", reason="NO_MODEL")
    loaded = [model for model in models if model.ready]
    if len(loaded) == 1 or len(models) == 1:
        return models[0].name
    return _ask(models, console) if sys.stdin.isatty() else _take_first(models, console)


def is_ready(report: inference_pb2.HealthReport, name: str) -> bool:
    """Whether the model, or any if the name is empty, can answer without being loaded first."""
    return any(_is_ready(model) and name in ("", model.name) for model in report.models)


def list_chat_models(report: inference_pb2.HealthReport, home_model: str) -> Sequence[ChatModel]:
    """The models that may chat. First those that are loaded, the home model before others, small ones before large."""
    base = _base_models(report)
    models = {
        model.name: ChatModel(name=model.name, ready=_is_ready(model), size_bytes=model.size_bytes)
        for model in report.models
    }
    for model in report.available:
        models.setdefault(model.name, ChatModel(name=model.name, ready=False, size_bytes=model.size_bytes))
    other = _other_kinds(report)
    chatting = (model for model in models.values() if model.name not in base and model.name not in other)
    return sorted(chatting, key=lambda model: (not model.ready, model.name != home_model, model.size_bytes, model.name))


def _check_chats(report: inference_pb2.HealthReport, name: str) -> None:
    if name in _base_models(report):
        raise FailedPrecondition(
            f"{name!r} has no chat template, so it is a base model: it continues texts (/v1/completions), and does not "
            "chat",
            reason="NO_CHAT_TEMPLATE",
        )


def _base_models(report: inference_pb2.HealthReport) -> set[str]:
    return {m.name for m in report.available if m.HasField("has_chat_template") and not m.has_chat_template}


def _other_kinds(report: inference_pb2.HealthReport) -> set[str]:
    """The models that do not generate text."""
    generating = (inference_pb2.MODEL_KIND_UNSPECIFIED, inference_pb2.MODEL_KIND_GENERATE)
    kinds = {model.name: model.kind for model in report.available} | {model.name: model.kind for model in report.models}
    return {name for name, kind in kinds.items() if kind not in generating}


def _is_ready(model: inference_pb2.ModelStatus) -> bool:
    return model.state == inference_pb2.ENDPOINT_STATE_READY


def _take_first(models: Sequence[ChatModel], console: Console) -> str:
    name = models[0].name
    console.print(f"Asking {name}, one of {len(models)} models; --model names another", style="dim", markup=False)
    return name


def _ask(models: Sequence[ChatModel], console: Console) -> str:
    """Lets the user choose by number or name; an empty line takes the first."""
    for number, model in enumerate(models, 1):
        note = "" if model.ready else "  (not loaded yet)"
        console.print(f"{number:3}  {model.name}{note}", markup=False, highlight=False)
    names = {str(number): model.name for number, model in enumerate(models, 1)} | {m.name: m.name for m in models}
    while True:
        answer = input("model [1]: ").strip() or "1"
        if answer in names:
            return names[answer]
        console.print(f"{answer!r} is no model; give a number from 1 to {len(models)}", style="red", markup=False)
