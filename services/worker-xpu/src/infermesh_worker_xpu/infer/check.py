"""Reads a model of tensors before an import copies it: its files, its tensors, and how it can be batched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from infermesh_worker.tensor_models.batching import batch_limits
from infermesh_worker.tensor_models.files import check_size, check_suffix, files_of
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.infer.build import make_executor
from infermesh_worker_xpu.infer.model_files import BESIDE, SUFFIXES


def describe(graph: Path, *, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """What a model's manifest says of it: {"format", "files", "inputs", "outputs", "batching"}, in plain values.

    `files` are names relative to the graph's folder. Raises InfermeshError for a model that cannot be served.
    """
    check_suffix(graph, SUFFIXES)
    files = files_of(graph, BESIDE)
    check_size(graph, files)
    model_format = SUFFIXES[graph.suffix]
    cpu = devices.select("cpu", 0)  # every machine has one, and the tensors are the same on the others
    executor = make_executor(graph, model_format, cpu, threads=0, batched=True, weights_bytes=0)
    progress("read", 0.8)
    limits = batch_limits(executor, executor.inputs, executor.outputs)
    return {
        "format": model_format,
        "files": files,
        "inputs": msgspec.to_builtins(executor.inputs),
        "outputs": msgspec.to_builtins(executor.outputs),
        "batching": None if limits is None else msgspec.to_builtins(limits),
    }
