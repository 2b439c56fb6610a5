"""Tries an encoder before an import copies it: whether it loads, what it reads, and how long its vectors are."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import EMBED, ModelKind
from infermesh_worker.executors.text_batches import pad
from infermesh_worker_cpu.infer.compiling import InferOptions

from .build import load_encoder
from .config import read_config

_TOKENS = 4


def check(
    folder: Path, *, kind: ModelKind, context_length: int, progress: Callable[[str, float], None]
) -> dict[str, int]:
    """{"context_length", "dimensions"} of the model in a folder. Raises InfermeshError for one that cannot run."""
    if any(folder.glob("*.safetensors")):
        context_length = min(context_length, read_config(folder).context_length)
    encoder = load_encoder(folder, kind, InferOptions(numerics="exact"), context_length, 0)
    progress("loaded", 0.7)
    tokens = np.arange(min(_TOKENS, context_length), dtype=np.int32)
    batch = pad([(tokens, np.zeros_like(tokens)), (tokens[:1], np.zeros_like(tokens[:1]))], encoder.pad_id)
    numbers = encoder.embed(batch, "mean") if kind == EMBED else encoder.score(batch)
    if not np.isfinite(numbers).all():
        raise FailedPrecondition("the model answers with numbers that are not finite", reason="MODEL_NOT_SUPPORTED")
    return {"context_length": context_length, "dimensions": numbers.shape[1] if kind == EMBED else 0}
