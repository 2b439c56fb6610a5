"""Finds out how requests of a model of tensors can be batched, by trying it with made-up rows alone and together."""

from collections.abc import Mapping, Sequence

import numpy as np

from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.manifest.model_kind import ANY, BatchLimits, TensorSpec
from infermesh_runtime.tensors import Array, named_type
from infermesh_worker.executors.executor import Executor, Item, Result

_BATCH_BYTES = 4 << 20
"""Inputs of a batch in all: with more, running them together gains nothing on a CPU."""
_MOST_ROWS = 64
_OPEN_SIZE = 16
"""Stands for open dimensions other than the first when a model is tried."""
_SAME = 1e-2
"""How far rows may differ when they run together; the precision of fast numerics is about as coarse."""
_RAW = frozenset({"BF16", "FP8_E4M3", "FP8_E5M2"})


def has_batch_axis(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Whether every tensor's first dimension is open, as that of a batch is; it may also be something else."""
    return all(spec.shape and spec.shape[0] == ANY for spec in (*inputs, *outputs))


def batch_limits(executor: Executor, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> BatchLimits | None:
    """How requests can be batched; None: not at all, or not known to be safe. `executor` must join their rows."""
    if not has_batch_axis(inputs, outputs) or not _rows_are_independent(executor, inputs):
        return None
    row_bytes = sum(array.nbytes for array in made_up(inputs, 1, 0).values())
    most = min(_MOST_ROWS, _BATCH_BYTES // max(1, row_bytes))
    return BatchLimits(max_size=most) if most > 1 else None


def made_up(inputs: Sequence[TensorSpec], count: int, seed: int) -> dict[str, Array]:
    """Inputs with `count` rows: numbers in [0, 1), and zeros and ones where numbers are whole, as indices may be."""
    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for spec in inputs:
        shape = (count, *(_OPEN_SIZE if extent == ANY else extent for extent in (spec.shape or ())[1:]))
        if spec.dtype == "BYTES":
            texts: Array = np.full(shape, b"a", object)
            made[spec.name] = texts
        elif spec.dtype in {"FP16", "FP32", "FP64"}:
            made[spec.name] = random.random(shape).astype(f"f{int(spec.dtype[2:]) // 8}")
        elif spec.dtype in _RAW:
            made[spec.name] = np.zeros(shape, named_type(spec.dtype))
        else:
            made[spec.name] = random.integers(0, 2, shape).astype(spec.dtype.lower())
    return made


def _rows_are_independent(executor: Executor, inputs: Sequence[TensorSpec]) -> bool:
    """Whether made-up inputs give the same outputs alone and together: an open first dimension may be another thing."""
    items = [Item(tensors=made_up(inputs, count, seed)) for seed, count in enumerate((1, 2, 1))]
    try:
        alone = [_copied(executor.run([item])[0]) for item in items]
        together = [_copied(outcome) for outcome in executor.run(items)]
    except InfermeshError:  # it cannot run on what we made up, so we know nothing
        return False
    return all(_equal(one[name], other[name]) for one, other in zip(alone, together, strict=True) for name in one)


def _equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype == object:
        return bool(one.tolist() == other.tolist())
    return np.allclose(one, other, rtol=_SAME, atol=_SAME, equal_nan=True)


def _copied(outcome: Result | InfermeshError) -> Mapping[str, Array]:
    if isinstance(outcome, InfermeshError):
        raise outcome
    return {
        name: array.copy() if array.dtype == object else array.astype(np.float64)
        for name, array in outcome.tensors.items()
    }
