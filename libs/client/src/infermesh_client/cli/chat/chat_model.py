"""Lists the models that `infermesh chat` may ask, and chooses one when the user names none."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.client import Client
from infermesh_runtime.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A model that could answer, or continue a text."""

    name: str
    ready: bool
    """Whether it is loaded; otherwise a question loads it."""
    size_bytes: int = 0


def choose_model(client: Client, wanted: str, *, home_model: str, console: SafeConsole) -> str:
    """The name of the model to ask. Asks the user if there are several and stdin is a terminal.

    `wanted` is the name that the user gave, `home_model` the one that the mesh was started with; both may be empty.
    Base models are offered only if no model chats. Raises Unavailable when there is no model.
    """
    if wanted:
        return wanted
    report = client.health()
    models = list_chat_models(report, home_model) or list_models(report, home_model)
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


def is_base(report: inference_pb2.HealthReport, name: str) -> bool:
    """Whether the model has no chat template: it continues texts, and does not chat."""
    return name in _base_models(report)


def list_chat_models(report: inference_pb2.HealthReport, home_model: str) -> Sequence[ChatModel]:
    """The models that chat, in the order of `list_models`."""
    return [model for model in list_models(report, home_model) if not is_base(report, model.name)]


def list_models(report: inference_pb2.HealthReport, home_model: str) -> Sequence[ChatModel]:
    """The models that write text. First those that are loaded, the home model before others, small before large."""
    models = {
        model.name: ChatModel(name=model.name, ready=_is_ready(model), size_bytes=model.size_bytes)
        for model in report.models
    }
    for model in report.available:
        models.setdefault(model.name, ChatModel(name=model.name, ready=False, size_bytes=model.size_bytes))
    other = _other_kinds(report)
    writing = (model for model in models.values() if model.name not in other)
    return sorted(writing, key=lambda model: (not model.ready, model.name != home_model, model.size_bytes, model.name))


def _base_models(report: inference_pb2.HealthReport) -> set[str]:
    return {m.name for m in report.available if m.HasField("has_chat_template") and not m.has_chat_template}


def _other_kinds(report: inference_pb2.HealthReport) -> set[str]:
    """The models that do not generate text."""
    generating = (inference_pb2.MODEL_KIND_UNSPECIFIED, inference_pb2.MODEL_KIND_GENERATE)
    kinds = {model.name: model.kind for model in report.available} | {model.name: model.kind for model in report.models}
    return {name for name, kind in kinds.items() if kind not in generating}


def _is_ready(model: inference_pb2.ModelStatus) -> bool:
    return model.state == inference_pb2.ENDPOINT_STATE_READY


def _take_first(models: Sequence[ChatModel], console: SafeConsole) -> str:
    name = models[0].name
    console.say(f"Asking {name}, one of {len(models)} models; --model names another", "dim")
    return name


def _ask(models: Sequence[ChatModel], console: SafeConsole) -> str:
    """Lets the user choose by number or name; an empty line takes the first."""
    for number, model in enumerate(models, 1):
        note = "" if model.ready else "  (not loaded yet)"
        console.say(f"{number:3}  {model.name}{note}")
    names = {str(number): model.name for number, model in enumerate(models, 1)} | {m.name: m.name for m in models}
    while True:
        console.print(Text("model [1]: "), end="")  # input() would ask on stdout, which has the answer
        answer = input().strip() or "1"
        if answer in names:
            return names[answer]
        console.say(f"{answer!r} is no model; give a number from 1 to {len(models)}", "red")
