"""Runs `infermesh compare`: asks one model the same on several devices, and shows where and how fast they agree."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from infermesh.inference.v1 import inference_pb2
from infermesh_client.bench.agreement import Reply
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.chat.chat_model import is_base
from infermesh_client.cli.connection import connect
from infermesh_client.cli.measure.answers import Answers
from infermesh_client.cli.measure.asked import Asked, settle
from infermesh_client.cli.measure.lanes import Lanes, difference_lines, document, lanes_table
from infermesh_client.cli.output.describe import device_name
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.client import Client
from infermesh_client.mesh.state import read_state
from infermesh_client.request import ChatMessage, GenerateOptions, Prompt
from infermesh_client.smart.stopwatch import Stopwatch
from infermesh_client.told import printable
from infermesh_runtime.compare_prompts import LOADING_PROMPT
from infermesh_runtime.errors import InfermeshError, InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What the command line says."""

    asked: Asked
    devices: str
    """Separated by commas."""
    max_tokens: int
    endpoint: str | None
    as_json: bool


@dataclass(slots=True)
class _Comparison:
    """What is asked, and what was found so far."""

    model: str
    prompts: Sequence[str]
    max_tokens: int
    lanes: Lanes
    """The devices that have answered all prompts."""
    failures: dict[str, InfermeshError]
    """Why the other devices have not."""


def run_compare(options: CompareOptions) -> None:
    """Prints one row a device, each compared with the first one, and how the answers differ; at Ctrl-C too.

    A device that fails is told, and the next one is asked; the command then exits with 1. Raises InfermeshError if all
    of them fail.
    """
    wanted = [part for raw in options.devices.split(",") if (part := raw.strip())]
    if len(set(wanted)) < 2:
        raise InvalidArgument(f"--devices must name at least two devices, as in cpu,gpu, not {options.devices!r}")
    settings, home = load_settings()
    state = None if options.endpoint else read_state(home)
    with connect(options.endpoint, settings, timeout_s=None) as client:
        model, prompts = settle(client, options.asked, state.model if state else "", error_console())
        comparison = _Comparison(model, prompts, options.max_tokens, {}, {})
        try:
            _ask_all(client, comparison, list(dict.fromkeys(wanted)))
        except KeyboardInterrupt:  # what was measured until then took its time
            if comparison.lanes:
                _report(comparison, options.as_json)
            raise
    _report(comparison, options.as_json)
    if comparison.failures:
        raise typer.Exit(1)


def _report(comparison: _Comparison, as_json: bool) -> None:
    model, prompts, lanes = comparison.model, comparison.prompts, comparison.lanes
    if as_json:
        failed = {device: error.message for device, error in comparison.failures.items()}
        print(printable(json.dumps(document(model, prompts, lanes, failed), indent=2, ensure_ascii=False)))
    else:
        console = SafeConsole()
        count = "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
        console.print(Text(f"{model}, {count}, at most {comparison.max_tokens} tokens each", style="dim"))
        console.print(lanes_table(lanes))
        if len(prompts) == 1:
            console.print(Answers(lanes))
        else:
            for line in difference_lines(prompts, lanes):
                console.print(line)
    for device, error in comparison.failures.items():
        error_console().print(f"error: {device}: {error.message}", style="red", markup=False, soft_wrap=True)


def _ask_all(client: Client, comparison: _Comparison, devices: Sequence[str]) -> None:
    """Asks one device after the other, so that they do not slow each other down. Raises the first error if all fail."""
    bare = is_base(client.health(), comparison.model)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = error_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(devices) * len(comparison.prompts))
        for number, device in enumerate(devices):
            progress.update(task, description=f"asking {comparison.model} on {device}")
            try:
                comparison.lanes[device] = _ask_device(client, comparison, device, bare, lambda: progress.advance(task))
            except InfermeshError as error:
                comparison.failures[device] = error
                progress.update(task, completed=(number + 1) * len(comparison.prompts))
    if not comparison.lanes:
        raise comparison.failures[devices[0]]


def _ask_device(
    client: Client, comparison: _Comparison, device: str, bare: bool, on_reply: Callable[[], None]
) -> list[Reply]:
    """The replies to all prompts, after a question that loads the model."""
    options = GenerateOptions(model=comparison.model, temperature=0, max_tokens=comparison.max_tokens, device=device)
    _ask(client, LOADING_PROMPT, bare, GenerateOptions(**{**options, "max_tokens": 1}))
    replies = []
    for prompt in comparison.prompts:
        replies.append(_ask(client, prompt, bare, options))
        on_reply()
    return replies


def _ask(client: Client, prompt: str, bare: bool, options: GenerateOptions) -> Reply:
    asked: Prompt = prompt if bare else [ChatMessage(role="user", content=prompt)]
    started, text, token_ids, watch = inference_pb2.Started(), "", list[int](), Stopwatch()
    for event in client.generate(asked, **options):
        if isinstance(event, inference_pb2.Started):
            started = event
        elif isinstance(event, inference_pb2.Delta):
            watch.take(event)
            text += event.text
            token_ids += event.token_ids
    return Reply(
        text=text,
        token_ids=token_ids,
        ttft_s=watch.ttft_s,
        tokens_per_s=watch.tokens_per_s,
        device=device_name(started.device),
        endpoint=started.endpoint,
    )
