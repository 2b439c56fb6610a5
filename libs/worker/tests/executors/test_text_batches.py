"""Texts are joined into batches of bounded cost, with little padding, and every text gets its own numbers."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.manifest.text_encoder import Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Result, executor_info
from infermesh_worker.executors.text_batches import TextBatch, pad, plan
from infermesh_worker.executors.text_executor import TextExecutor, pool, unit

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=60)


@given(lengths=LENGTHS, most=st.integers(1, 3000))
def test_batches_are_bounded_and_hold_every_text_once(lengths: Sequence[int], most: int) -> None:
    batches = list(plan(lengths, most))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        cost = len(batch) * max(lengths[index] for index in batch)
        assert cost <= most or len(batch) == 1
        padding = cost - sum(lengths[index] for index in batch)
        assert cost <= 256 or padding <= 0.25 * cost


def test_padding_is_at_the_end() -> None:
    batch = pad([(np.array([5, 6, 7]), np.array([0, 0, 1])), (np.array([8]), np.array([0]))], 9)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.types.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_pooling_leaves_padding_out() -> None:
    hidden = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = np.array([[1, 1, 1], [1, 1, 0]])
    assert pool(hidden, mask, "cls").tolist() == [[0, 1], [6, 7]]
    assert pool(hidden, mask, "last").tolist() == [[4, 5], [8, 9]]
    assert pool(hidden, mask, "mean").tolist() == [[2, 3], [7, 8]]


def test_a_vector_without_a_direction_stays() -> None:
    assert unit(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]


class Counting:
    """An encoder whose vectors are a text's first id and its length, and whose score is the id. It notes batches."""

    pad_id = 0

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.info: RunnerInfo = executor_info(
            device_kind="cpu", device_name="", memory_total_bytes=1, runtime="", weights_bytes=1
        )

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:
        self.shapes.append(batch.ids.shape)
        return np.stack([batch.ids[:, 0], batch.mask.sum(1)], 1).astype(np.float32)

    def score(self, batch: TextBatch) -> Array:
        return batch.ids[:, 0].astype(np.float32)

    def memory_free_bytes(self) -> int:
        return 1

    def close(self) -> None:
        pass


def item(*texts: Sequence[int], **params: object) -> Item:
    tensors = {
        "ids": np.array([token for text in texts for token in text], np.int32),
        "lengths": np.array([len(text) for text in texts], np.int32),
    }
    return Item(params=params, tensors=tensors)


def rows(outcome: object, name: str) -> list[object]:
    assert isinstance(outcome, Result)
    found: list[object] = outcome.tensors[name].tolist()
    return found


def test_items_run_together_and_each_gets_its_own_rows() -> None:
    encoder = Counting()
    executor = TextExecutor(encoder, kind="embed", most_tokens=400, activation="sigmoid")
    one, two = executor.run([item([3] * 300, [4]), item([5] * 290)])
    assert rows(one, "embeddings") == [[3, 300], [4, 1]]
    assert rows(two, "embeddings") == [[5, 290]]
    assert encoder.shapes == [(1, 300), (1, 290), (1, 1)]  # the longest first, and none of more than 400 tokens


def test_what_an_item_asks_is_done_to_its_own_rows() -> None:
    executor = TextExecutor(Counting(), kind="embed", most_tokens=99, activation="sigmoid")
    one, two = executor.run([item([3] * 4, normalize=True), item([5], dimensions=1)])
    assert rows(one, "embeddings") == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert rows(two, "embeddings") == [[5]]
    assert executor.group(item([1], pooling="cls")) != executor.group(item([1], pooling="mean"))
    assert executor.size(item([1, 2], [3])) == 3


def test_scores_are_squashed_unless_asked_raw() -> None:
    executor = TextExecutor(Counting(), kind="rerank", most_tokens=99, activation="sigmoid")
    plain, raw = executor.run([item([2]), item([2], raw=True)])
    assert rows(plain, "scores") == [pytest.approx(1 / (1 + np.exp(-2)))]
    assert rows(raw, "scores") == [2]
    identity = TextExecutor(Counting(), kind="rerank", most_tokens=99, activation="identity")
    assert rows(identity.run([item([2])])[0], "scores") == [2]


@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
def test_vectors_do_not_change_with_the_memory_of_the_next_run(pooling: Pooling) -> None:
    hidden = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    vectors = pool(hidden, np.array([[1, 1, 1], [1, 1, 0]], np.int32), pooling)
    before = vectors.copy()
    hidden[:] = -1
    assert (vectors == before).all()
