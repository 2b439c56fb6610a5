"""Asks the installed workers what a model of tensors is, before anything is copied.

A worker's package registers a function under `infermesh.tensor_models`. It is called, in a process of its own, as
`describe(graph, *, progress)` with the file that has the model's graph, and returns {"format", "files", "inputs",
"outputs", "batching"}: the model's files, by names relative to the graph's folder, and what its manifest says of it.
For what it cannot serve, it raises an InfermeshError that says why, with the reason OTHER_FORMAT for files that it does
not read.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

import msgspec

from infermesh_client.converter_env.environment import LOG
from infermesh_client.model_import.apart import run_apart
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.manifest.model_kind import ANY, BatchLimits, TensorSpec
from infermesh_runtime.manifest.model_manifest import ModelFormat

GROUP = "infermesh.tensor_models"
OTHER_FORMAT = "OTHER_FORMAT"
"""Reason of a worker's error for a file of a format that it does not read."""


class TensorModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found in a model's files."""

    format: ModelFormat
    files: tuple[str, ...]
    """Relative to the folder of the graph, which is the first."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batching: BatchLimits | None
    not_for: tuple[str, ...] = ()
    """Names of the workers' runners that read such files, but cannot run this model."""


def describe(graph: Path, home: Path, view: ProgressView) -> TensorModelFacts:
    """What the first worker that can serve the model says of it.

    Raises the error of the first one that reads such files if none can.
    """
    errors: dict[str, InfermeshError] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            with view.fraction_step(f"Reading {graph.name}") as step:
                found = run_apart(entry, graph, step, {}, home / "log" / LOG)
        except InfermeshError as error:
            if error.reason != OTHER_FORMAT:
                errors[entry.name] = error
        else:
            return msgspec.structs.replace(msgspec.convert(found, TensorModelFacts), not_for=tuple(errors))
    if errors:
        raise next(iter(errors.values()))
    raise FailedPrecondition(
        f"no worker is installed that can serve {graph.name}; infermesh-worker-cpu serves ONNX, OpenVINO IR, "
        "TensorFlow Lite and Paddle, infermesh-worker-xpu torch.export, TorchScript and, with onnxruntime, ONNX",
        reason="CONVERTER_NOT_INSTALLED",
    )


def account(facts: TensorModelFacts) -> Sequence[str]:
    """Lines that say what the model takes and gives, and how it is batched."""
    batching = facts.batching
    together = f"up to {batching.max_size} rows of requests run together" if batching else "each request runs alone"
    return [
        f"takes: {', '.join(map(show, facts.inputs))}",
        f"gives: {', '.join(map(show, facts.outputs))}",
        f"batching: {together}",
    ]


def show(spec: TensorSpec) -> str:
    """A tensor in words, such as "x FP32 [?, 3]"."""
    if spec.shape is None:
        return f"{spec.name} {spec.dtype} of any shape"
    return f"{spec.name} {spec.dtype} [{', '.join('?' if extent == ANY else str(extent) for extent in spec.shape)}]"
