"""Defines the command line of `infermesh models`."""

from typing import Annotated

import typer

from infermesh_client.cli.completion import completing
from infermesh_client.cli.help_texts import examples
from infermesh_client.cli.models import import_arguments as given
from infermesh_client.cli.options import AsJson, Endpoint
from infermesh_client.model_import.options import ImportOptions

Stored = Annotated[str, typer.Argument(help="Name of the model.", autocompletion=completing.models)]
models_app = typer.Typer(help="List, import, load, unload and remove models; without a command, list them.")


@models_app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List the models that are served and those on disk."""
    if context.invoked_subcommand is None:
        list_models(as_json=as_json, endpoint=endpoint)


@models_app.command("list")
def list_models(as_json: AsJson = False, endpoint: Endpoint = None) -> None:
    """List the models that are served and those on disk."""
    from infermesh_client.cli.models.models import run_list  # noqa: PLC0415

    run_list(endpoint, as_json=as_json)


@models_app.command(
    "import",
    epilog=examples(
        "infermesh models import hf:HuggingFaceTB/SmolLM2-360M-Instruct --name smol",
        "infermesh models import model.gguf --name mine --link",
        "infermesh models import ollama:qwen3:0.6b --name qwen3",
        "infermesh models import hf:org/name --dry-run",
    ),
)
def import_model(  # noqa: PLR0917 - typer passes them by name
    source: given.Source,
    name: given.Name = "",
    weights: given.Weights = None,
    force: given.Force = False,
    eos: given.Eos = None,
    tool_format: given.ToolFormat = None,
    reasoning: given.Reasoning = None,
    include: given.Include = None,
    link: given.Link = False,
    verify: given.Verify = True,
    max_batch: given.MaxBatch = None,
    batch_delay_ms: given.BatchDelayMs = 0.0,
    trust_code: given.TrustCode = False,
    dry_run: given.DryRun = False,
    for_worker: given.ForWorker = False,
) -> None:
    """Copy or download a model into the models folder, ready to serve. A failed import leaves nothing behind."""
    from infermesh_client.cli.models.importing import run_dry_import, run_import  # noqa: PLC0415

    wanted = ImportOptions(
        weights=weights,
        include=include,
        link=link,
        verify=verify,
        max_batch=max_batch,
        batch_delay_ms=batch_delay_ms,
        trust_code=trust_code,
        eos=tuple(eos or ()),
        tool_format=tool_format,
        reasoning=reasoning,
    )
    if for_worker:
        from infermesh_client.cli.models.worker_import import run_worker_import  # noqa: PLC0415

        run_worker_import(source, name, wanted, force=force)
    elif dry_run:
        run_dry_import(source, wanted)
    elif name:
        run_import(source, name, wanted, force=force)
    else:
        raise typer.BadParameter("is missing", param_hint="--name")


@models_app.command(
    "load", epilog=examples("infermesh models load qwen3", "infermesh models load qwen3 --device gpu --pin")
)
def load_model(
    name: Stored,
    pin: Annotated[
        bool, typer.Option("--pin", help="Never unload the model to make room or because it is idle.")
    ] = False,
    keep_alive: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Unload the model after this many seconds without a request; 0: never; default: the worker's own "
            "setting.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Where the router loads it: cpu, gpu, xpu, cuda or an endpoint's host:port.",
            autocompletion=completing.devices,
        ),
    ] = "",
    endpoint: Endpoint = None,
) -> None:
    """Load a model into memory, on the worker given by --endpoint or on the one that the router chooses."""
    from infermesh_client.cli.models.models import run_load  # noqa: PLC0415

    run_load(name, endpoint, pinned=pin, keep_alive_s=keep_alive, device=device)


@models_app.command("unload")
def unload_model(
    name: Stored,
    force: Annotated[
        bool,
        typer.Option("--force", help="Unload it even while requests use it; a router moves them to other endpoints."),
    ] = False,
    endpoint: Endpoint = None,
) -> None:
    """Unload a model from memory; it stays on disk."""
    from infermesh_client.cli.models.models import run_unload  # noqa: PLC0415

    run_unload(name, endpoint, force=force)


@models_app.command("remove")
def remove_model(
    name: Stored,
    force: Annotated[bool, typer.Option("--force", help="Delete it even while the mesh serves it.")] = False,
) -> None:
    """Delete a model from the models folder."""
    from infermesh_client.cli.models.models import run_remove  # noqa: PLC0415

    run_remove(name, force=force)
