"""Reads a model of tensors before an import copies it: its files, its tensors, and how it can be batched."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov

from infermesh_runtime import machine
from infermesh_runtime.errors import InfermeshError, InvalidArgument, ResourceExhausted
from infermesh_runtime.model_kind import ANY, BatchLimits, TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Result

from .compiling import InferOptions, compile_for_cpu, read
from .describe import has_batch_axis, inputs_of, outputs_of
from .executor import OpenVinoExecutor
from .model_files import SUFFIXES, files_of

_BATCH_BYTES = 4 << 20
"""Inputs of a batch in all: with more, running them together gains nothing on a CPU."""
_MOST_ROWS = 64
_OPEN_SIZE = 16
"""Stands for open dimensions other than the first when a model is tried."""
_MEMORY_FACTOR = 1.25
_SAME = 1e-2
"""How far rows may differ when they run together; the precision of fast numerics is about as coarse."""


def describe(graph: Path, *, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """What a model's manifest says of it: {"format", "files", "inputs", "outputs", "batching"}, in plain values.

    `files` are names relative to the graph's folder. Raises InfermeshError for a model that cannot be served.
    """
    if graph.suffix not in SUFFIXES:
        raise InvalidArgument(f"{graph.name} is no model: expected a file that ends in {', '.join(SUFFIXES)}")
    files = files_of(graph)
    _check_size(graph, files)
    core = ov.Core()
    model = read(core, graph)
    progress("read", 0.3)
    inputs, outputs = inputs_of(model), outputs_of(model)
    if not inputs or not outputs:
        raise InvalidArgument(f"{graph.name} takes no inputs or gives no outputs")
    compiled = compile_for_cpu(core, model, InferOptions(numerics="exact"), None)
    progress("compiled", 0.8)
    limits = _limits(compiled, inputs, outputs)
    return {
        "format": SUFFIXES[graph.suffix],
        "files": files,
        "inputs": msgspec.to_builtins(inputs),
        "outputs": msgspec.to_builtins(outputs),
        "batching": None if limits is None else msgspec.to_builtins(limits),
    }


def _check_size(graph: Path, files: Sequence[str]) -> None:
    """Raises ResourceExhausted for a model that this machine could not hold, before it is read."""
    needed = int(_MEMORY_FACTOR * sum((graph.parent / name).stat().st_size for name in files))
    if needed > (memory := machine.memory_total_bytes()):
        raise ResourceExhausted(
            f"{graph.name} and its weights need about {needed / 1e9:.1f} GB of memory; this machine has "
            f"{memory / 1e9:.1f} GB",
            reason="OUT_OF_MEMORY",
        )


def _limits(
    compiled: ov.CompiledModel, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> BatchLimits | None:
    """How requests can be batched; None: not at all, or not known to be safe."""
    if not has_batch_axis(inputs, outputs) or not _rows_are_independent(compiled, inputs):
        return None
    row_bytes = sum(array.nbytes for array in _made_up(inputs, 1, 0).values())
    most = min(_MOST_ROWS, _BATCH_BYTES // max(1, row_bytes))
    return BatchLimits(max_size=most) if most > 1 else None


def _rows_are_independent(compiled: ov.CompiledModel, inputs: Sequence[TensorSpec]) -> bool:
    """Whether made-up inputs give the same outputs alone and together: an open first dimension may be another thing."""
    executor = OpenVinoExecutor(compiled, batched=True, weights_bytes=0)
    items = [Item(tensors=_made_up(inputs, count, seed)) for seed, count in enumerate((1, 2, 1))]
    try:
        alone = [_copied(executor.run([item])[0]) for item in items]
        together = [_copied(outcome) for outcome in executor.run(items)]
    except InfermeshError:  # it cannot run on what we made up, so we know nothing
        return False
    return all(
        np.allclose(one[name], other[name], rtol=_SAME, atol=_SAME, equal_nan=True)
        for one, other in zip(alone, together, strict=True)
        for name in one
    )


def _copied(outcome: Result | InfermeshError) -> Mapping[str, Array]:
    if isinstance(outcome, InfermeshError):
        raise outcome
    return {name: array.astype(np.float64) for name, array in outcome.tensors.items()}


def _made_up(inputs: Sequence[TensorSpec], count: int, seed: int) -> dict[str, Array]:
    """Inputs with `count` rows: numbers in [0, 1), and zeros and ones where numbers are whole, as indices may be."""
    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = (count, *(_OPEN_SIZE if extent == ANY else extent for extent in (spec.shape or ())[1:]))
        if spec.dtype in {"FP16", "FP32", "FP64"}:
            made[spec.name] = random.random(shape).astype(f"f{int(spec.dtype[2:]) // 8}")
        elif spec.dtype in {"BF16", "FP8_E4M3", "FP8_E5M2"}:
            made[spec.name] = np.zeros(shape, np.uint16 if spec.dtype == "BF16" else np.uint8)
        else:
            made[spec.name] = random.integers(0, 2, shape).astype(spec.dtype.lower())
    return made
