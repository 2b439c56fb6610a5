"""Reads a model of tensors before an import copies it: its files, its tensors, and how it can be batched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import openvino as ov

from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.tensor_models.batching import batch_limits
from infermesh_worker.tensor_models.files import check_size, check_suffix, files_of

from .compiling import InferOptions, compile_for_cpu, read
from .describe import inputs_of, outputs_of
from .executor import OpenVinoExecutor
from .model_files import BESIDE, SUFFIXES


def describe(graph: Path, *, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """What a model's manifest says of it: {"format", "files", "inputs", "outputs", "batching"}, in plain values.

    `files` are names relative to the graph's folder. Raises InfermeshError for a model that cannot be served.
    """
    check_suffix(graph, SUFFIXES)
    files = files_of(graph, BESIDE)
    check_size(graph, files)
    core = ov.Core()
    model = read(core, graph)
    progress("read", 0.3)
    inputs, outputs = inputs_of(model), outputs_of(model)
    if not inputs or not outputs:
        raise InvalidArgument(f"{graph.name} takes no inputs or gives no outputs")
    compiled = compile_for_cpu(core, model, InferOptions(numerics="exact"), None)
    progress("compiled", 0.8)
    limits = batch_limits(OpenVinoExecutor(compiled, batched=True, weights_bytes=0), inputs, outputs)
    return {
        "format": SUFFIXES[graph.suffix],
        "files": files,
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
        "batching": None if limits is None else msgspec.to_builtins(limits),
    }
