"""Runs `infermesh compare`: asks one model the same on several devices, and shows where and how fast they agree."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from infermesh.inference.v1 import inference_pb2
from infermesh_client.bench.agreement import Reply
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.chat.chat_model import is_base
from infermesh_client.cli.connection import connect
from infermesh_client.cli.describe import device_name
from infermesh_client.cli.measure.lanes import Lanes, difference_lines, document, lanes_table
from infermesh_client.cli.safe_console import SafeConsole
from infermesh_client.client import Client
from infermesh_client.request import ChatMessage, GenerateOptions, Prompt
from infermesh_client.smart.stopwatch import Stopwatch
from infermesh_client.told import printable
from infermesh_runtime.compare_prompts import COMPARE_PROMPTS, LOADING_PROMPT
from infermesh_runtime.errors import InvalidArgument


def run_compare(
    model: str,
    devices: str,
    prompt: str | None,
    prompts_file: Path | None,
    *,
    max_tokens: int,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Prints one row a device, each compared with the first one, and the first differences. Raises InfermeshError."""
    wanted = [part for raw in devices.split(",") if (part := raw.strip())]
    if len(set(wanted)) < 2:
        raise InvalidArgument(f"--devices must name at least two devices, as in cpu,gpu, not {devices!r}")
    prompts = _prompts(prompt, prompts_file)
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        lanes = _ask_all(client, model, dict.fromkeys(wanted), prompts, max_tokens)
    if as_json:
        print(printable(json.dumps(document(model, prompts, lanes), indent=2, ensure_ascii=False)))
        return
    console = SafeConsole()
    console.print(lanes_table(lanes))
    for line in difference_lines(prompts, lanes):
        console.print(line)


def _prompts(prompt: str | None, path: Path | None) -> Sequence[str]:
    """The prompts to ask: the one given, the lines of the file, or ours."""
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


def _ask_all(client: Client, model: str, devices: dict[str, None], prompts: Sequence[str], max_tokens: int) -> Lanes:
    """Asks one device after the other, so that they do not slow each other down."""
    bare = is_base(client.health(), model)
    options = GenerateOptions(model=model, temperature=0, max_tokens=max_tokens)
    lanes: Lanes = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = error_console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(devices) * len(prompts))
        for device in devices:
            progress.update(task, description=f"asking {model} on {device}")
            lanes[device] = []
            _ask(client, LOADING_PROMPT, bare, GenerateOptions(**{**options, "device": device, "max_tokens": 1}))
            for prompt in prompts:
                lanes[device].append(_ask(client, prompt, bare, GenerateOptions(**{**options, "device": device})))
                progress.advance(task)
    return lanes


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
