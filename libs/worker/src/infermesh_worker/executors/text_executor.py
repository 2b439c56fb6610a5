"""Runs models that turn texts into vectors or scores, in batches of about so many tokens, whatever the requests."""

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.manifest.model_kind import BatchLimits, ModelKind
from infermesh_runtime.manifest.text_encoder import Activation, Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Outcome, Result
from infermesh_worker.executors.text_batches import TextBatch, pad, plan

IDS, TYPES, LENGTHS = "ids", "types", "lengths"
"""Names of an item's tensors, all INT32: the tokens of all texts [tokens], which text of a pair each is from [tokens],
and the texts' lengths [texts]."""
POOLING, DIMENSIONS, NORMALIZE, RAW = "pooling", "dimensions", "normalize", "raw"
"""Names of an item's parameters; see EmbedRequest and ScoreRequest."""
EMBEDDINGS, SCORES = "embeddings", "scores"
"""Names of a result's tensors: FP32 [texts, dimensions], and FP32 [texts]."""


class Encoder(Protocol):
    """A loaded model. Its methods are called by one thread at a time."""

    info: RunnerInfo
    pad_id: int
    """Stands where there is no token."""

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:
        """A vector for each text, FP32 [texts, dimensions], not normalised. Raises InfermeshError."""
        ...

    def score(self, batch: TextBatch) -> Array:
        """The raw score of each text, FP32 [texts]. Raises InfermeshError."""
        ...

    def memory_free_bytes(self) -> int:
        """Free memory of the device now."""
        ...

    def close(self) -> None:
        """Frees the device."""
        ...


class TextExecutor:
    """An encoder as an executor, of kind embed or rerank."""

    parallel = 1

    def __init__(self, encoder: Encoder, *, kind: ModelKind, most_tokens: int, activation: Activation) -> None:
        """`most_tokens`: in a batch, padding included."""
        self._encoder = encoder
        self._embeds = kind == "embed"
        self._most_tokens = most_tokens
        self._activation = activation
        self.info = encoder.info

    def group(self, item: Item) -> Hashable | None:
        return str(item.params.get(POOLING, ""))

    def size(self, item: Item) -> int:
        return max(1, int(item.tensors[IDS].size))

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        texts = [text for item in items for text in _texts(item)]
        rows = self._run_texts(texts, items[0].params.get(POOLING, "mean"))
        outcomes: list[Outcome] = []
        begin = 0
        for item in items:
            end = begin + item.tensors[LENGTHS].size
            outcomes.append(self._result(item, rows[begin:end]))
            begin = end
        return outcomes

    def memory_free_bytes(self) -> int:
        return self._encoder.memory_free_bytes()

    def close(self) -> None:
        self._encoder.close()

    def _run_texts(self, texts: Sequence[tuple[Array, Array]], pooling: Pooling) -> Array:
        """The answer to each text, in their order."""
        answers: list[Array | None] = [None] * len(texts)
        for indexes in plan([len(ids) for ids, _ in texts], self._most_tokens):
            batch = pad([texts[index] for index in indexes], self._encoder.pad_id)
            rows = self._encoder.embed(batch, pooling) if self._embeds else self._encoder.score(batch)
            for index, row in zip(indexes, rows, strict=True):
                answers[index] = row
        return np.stack([answer for answer in answers if answer is not None])

    def _result(self, item: Item, rows: Array) -> Result:
        if not self._embeds:
            raw = self._activation == "identity" or item.params.get(RAW)
            return Result(tensors={SCORES: rows if raw else _sigmoid(rows)})
        kept = rows[:, : item.params.get(DIMENSIONS) or rows.shape[1]]
        return Result(tensors={EMBEDDINGS: unit(kept) if item.params.get(NORMALIZE) else kept})


def built_text_model(
    encoder: Encoder, *, kind: ModelKind, name: str, most_tokens: int, activation: Activation
) -> BuiltExecutor:
    """What a worker's build function returns for a model of kind embed or rerank."""
    return BuiltExecutor(
        executor=TextExecutor(encoder, kind=kind, most_tokens=most_tokens, activation=activation),
        kind=kind,
        name=name,
        limits=BatchLimits(max_size=most_tokens),
    )


def unit(vectors: Array) -> Array:
    """The vectors [..., dimensions] with length 1; those without a direction stay as they are."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    divided: Array = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return divided


def pool(hidden: Array, mask: Array, pooling: Pooling) -> Array:
    """One vector for each text, FP32 [texts, dimensions], from those of its tokens [texts, tokens, dimensions].

    `mask` is 1 for tokens and 0 for padding, which is at the end. No view of `hidden`, which the next run overwrites.
    """
    if pooling == "cls":
        return np.array(hidden[:, 0], np.float32)
    if pooling == "last":
        return np.asarray(hidden[np.arange(len(hidden)), mask.sum(1) - 1], np.float32)
    summed = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    mean: Array = summed / np.maximum(mask.sum(1, keepdims=True), 1)
    return mean.astype(np.float32)


def _texts(item: Item) -> list[tuple[Array, Array]]:
    bounds = np.cumsum(item.tensors[LENGTHS])[:-1]
    ids = item.tensors[IDS]
    types = item.tensors.get(TYPES, np.zeros_like(ids))
    return list(zip(np.split(ids, bounds), np.split(types, bounds), strict=True))


def _sigmoid(scores: Array) -> Array:
    squashed: Array = np.exp(-np.logaddexp(0.0, -scores.astype(np.float64)))
    return squashed.astype(np.float32)
