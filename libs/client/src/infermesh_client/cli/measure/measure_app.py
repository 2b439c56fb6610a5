"""Defines the command lines of `infermesh bench` and `infermesh compare`."""

from pathlib import Path
from typing import Annotated

import typer

from infermesh_client.cli.help_texts import MEASURE
from infermesh_client.cli.options import AsJson, Endpoint
from infermesh_runtime.compare_prompts import COMPARE_MAX_TOKENS

measure_app = typer.Typer()


@measure_app.command(rich_help_panel=MEASURE)
def bench(  # noqa: PLR0917 - typer passes them by name
    streams: Annotated[
        str, typer.Option(help="How many streams to keep running at once, one after the other, separated by commas.")
    ] = "1,8,32",
    url: Annotated[
        str,
        typer.Option(help="Base URL of another server with OpenAI's API, as https://host/v1; default: this mesh."),
    ] = "",
    model: Annotated[str, typer.Option(help="Name of the model to ask; default: a loaded one.")] = "",
    device: Annotated[
        str, typer.Option(help="Where this mesh answers: gpu, cpu, xpu, cuda, or an endpoint's address; default: auto.")
    ] = "",
    requests: Annotated[int, typer.Option(min=1, help="How many requests each stream makes, one after the other.")] = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 128,
    completions: Annotated[
        bool, typer.Option("--completions", help="Continue texts instead of chatting; base models always do.")
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the API key for the server. INFERMESH_API_KEY is sent to this mesh only."),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, help="How long a server may be silent before a request fails, in seconds.")
    ] = 120.0,
) -> None:
    """Measure this mesh, or any server with OpenAI's API, with many streams at once.

    Prints a table, and as the last line one JSON document. Exits with 1 if no request was answered.
    """
    from infermesh_client.cli.measure.bench import BenchOptions, parse_streams, run_bench  # noqa: PLC0415

    run_bench(
        BenchOptions(
            url=url,
            model=model,
            streams=parse_streams(streams),
            requests=requests,
            max_tokens=max_tokens,
            device=device,
            completions=completions,
            api_key_file=api_key_file,
            timeout_s=timeout_s,
        )
    )


@measure_app.command(rich_help_panel=MEASURE)
def compare(  # noqa: PLR0917 - typer passes them by name
    first: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Name of the model to ask; default: a loaded one.", show_default=False),
    ] = None,
    second: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            help="Question to ask; default: three of ours. Without a model it comes first.",
            show_default=False,
        ),
    ] = None,
    devices: Annotated[
        str,
        typer.Option(
            help="Devices to compare with the first, separated by commas: kinds of device or addresses of endpoints."
        ),
    ] = "cpu,gpu",
    model: Annotated[
        str, typer.Option(help="The model, for a question of one word: a single word is taken for a model.")
    ] = "",
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="File of questions, one a line.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = COMPARE_MAX_TOKENS,
    as_json: AsJson = False,
    endpoint: Endpoint = None,
) -> None:
    """Ask a model the same on several devices: do they agree, where do they first differ, and how fast are they?

    The answers are sampled without chance (temperature 0), one device after the other.

    With a question of yours, it prints the answers too, and marks what differs.
    """
    from infermesh_client.cli.measure.asked import Asked  # noqa: PLC0415
    from infermesh_client.cli.measure.compare import CompareOptions, run_compare  # noqa: PLC0415

    words = [word for word in (first, second) if word is not None]
    run_compare(
        CompareOptions(
            asked=Asked(words=words, model=model, prompts_file=prompts),
            devices=devices,
            max_tokens=max_tokens,
            endpoint=endpoint,
            as_json=as_json,
        )
    )
