"""Vectors and scores as the model alone gives them, without a worker: what its answers are compared with."""

from pathlib import Path
from typing import Any

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.text_batches import pad
from infermesh_worker.executors.text_executor import unit
from infermesh_worker_cpu.encoders.build import load_encoder
from infermesh_worker_cpu.encoders.encoder import OpenVinoEncoder
from infermesh_worker_cpu.infer.compiling import InferOptions
from tests.text_models.folders import LONGEST, tokenizer


def loaded(root: Path, name: str, kind: Any) -> OpenVinoEncoder:
    return load_encoder(root / name, kind, InferOptions(numerics="exact", threads=1, batched=True), LONGEST, 0)


def ids_of(text: str, second: str | None = None) -> tuple[Array, Array]:
    """Ids of a text, or of a pair, as tokenizers makes them alone; and which text they are of."""
    plain = tokenizer()
    plain.no_truncation()
    plain.no_padding()
    encoding = plain.encode(text, second)
    return np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int32)


def vector(direct: OpenVinoEncoder, text: str, pooling: Any = "mean") -> Array:
    found = direct.embed(pad([ids_of(text)], 0), pooling)[0]
    return unit(found)
