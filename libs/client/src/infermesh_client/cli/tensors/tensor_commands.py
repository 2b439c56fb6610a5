"""Defines `infermesh infer` and `infermesh embed`: their arguments and their help."""

from typing import Annotated

import typer

from infermesh_client.cli.completion import completing
from infermesh_client.cli.options import Device, Endpoint


def infer(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[
        str, typer.Argument(help="Name of the model; it turns tensors into tensors.", autocompletion=completing.models)
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=FILE",
            help="An input: a .npy file, an image, a .json file, or - for JSON on stdin; one for each input.",
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--output", metavar="NAME=FILE", help="Save this output as a .npy file; the others are printed as JSON."
        ),
    ] = None,
    device: Device = "",
    image_mean: Annotated[
        str,
        typer.Option(
            metavar="NUMBERS",
            help="Subtracted from an image's pixels, in [0, 1], where the model takes floating-point numbers: one "
            "number, or one for each channel.",
        ),
    ] = "0",
    image_std: Annotated[
        str, typer.Option(metavar="NUMBERS", help="What the pixels are then divided by; 0.00392157 gives [0, 255].")
    ] = "1",
    endpoint: Endpoint = None,
) -> None:
    """Run a model on tensors from files, and print or save what it gives."""
    from infermesh_client.cli.tensors.images import Normalization  # noqa: PLC0415
    from infermesh_client.cli.tensors.infer import numbers, run_infer  # noqa: PLC0415

    normalization = Normalization(numbers(image_mean, "--image-mean"), numbers(image_std, "--image-std"))
    run_infer(model, inputs or (), outputs or (), normalization=normalization, device=device, endpoint=endpoint)


def embed(  # noqa: PLR0917 - typer passes them by name
    model: Annotated[
        str, typer.Argument(help="Name of the model; it turns texts into vectors.", autocompletion=completing.models)
    ],
    texts: Annotated[list[str] | None, typer.Argument(help="The texts; default: the lines of stdin.")] = None,
    kind: Annotated[
        str, typer.Option(help="What the texts are in a search: query or document; chooses the model's own prompt.")
    ] = "",
    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep so many numbers of each vector.")] = None,
    device: Device = "",
    endpoint: Endpoint = None,
) -> None:
    """Turn texts into vectors: one line of JSON for each text."""
    from infermesh_client.cli.tensors.embed import run_embed  # noqa: PLC0415

    run_embed(model, texts or (), kind=kind, dimensions=dimensions, device=device, endpoint=endpoint)
