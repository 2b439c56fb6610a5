"""The largest logits of a row are those that topk finds, wherever they lie in the vocabulary."""

import pytest
import torch

from infermesh_worker_xpu.execution.largest import largest


@pytest.mark.parametrize("size", [5, 64, 300, 8192, 8192 + 37])
@pytest.mark.parametrize("rows", [1, 3])
def test_it_finds_what_topk_finds(size: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(size)
    logits = torch.randperm(rows * size, generator=generator).view(rows, size).float()  # no ties
    count = min(16, size)
    values, ids = largest(logits, count)
    expected = logits.topk(count, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


def test_the_largest_may_share_a_chunk_or_lie_in_the_rest() -> None:
    size = 8192 + 5
    logits = torch.zeros(2, size)
    logits[0, 640:656] = torch.arange(16, 0, -1).float()
    logits[1, -5:] = torch.arange(5, 0, -1).float()
    assert largest(logits, 16)[1][0].tolist() == list(range(640, 656))
    assert largest(logits, 5)[1][1].tolist() == list(range(size - 5, size))


def test_ties_are_of_the_largest_value() -> None:
    logits = torch.zeros(1, 8192)
    logits[0, ::2] = 1.0
    values, ids = largest(logits, 16)
    assert (values == 1).all()
    assert torch.equal(logits[0, ids[0]], values[0])
    assert len(set(ids[0].tolist())) == 16
