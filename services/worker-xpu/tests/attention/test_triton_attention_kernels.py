"""Compares the Triton kernels with attention in float64. test_triton_attention runs this file in its own process."""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found"

from __future__ import annotations

import itertools
import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Triton chooses its interpreter when it is imported, so this file has tests only in the process that sets it.
__test__ = os.environ.get("TRITON_INTERPRET") == "1"

if __test__:
    import numpy as np
    import torch
    from attention_cases import DTYPES, Cache, Case, assert_close, eager, random_query
    from torch import Tensor
    from triton import language as tl
    from triton.runtime import interpreter

    from infermesh_worker_xpu.attention import triton_attention
    from infermesh_worker_xpu.attention import triton_tiles as triton_attention_tiles


@pytest.fixture(autouse=True)
def plain_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the interpreter's dot by one in float64, rounded to float32.

    Triton 3.7.1's keeps bf16 as 16-bit integers and multiplies those; and the bits of a row of numpy's matmul depend on
    where in the tile it stands.
    """

    def wide(handle: interpreter.TensorHandle) -> NDArray[np.float64]:
        data = handle.data
        if handle.dtype.scalar == tl.bfloat16:
            data = (data.astype(np.uint32) << 16).view(np.float32)
        wide_data: NDArray[np.float64] = data.astype(np.float64)
        return wide_data

    def dot(
        _: object,
        a: interpreter.TensorHandle,
        b: interpreter.TensorHandle,
        accumulator: interpreter.TensorHandle,
        *__: object,
    ) -> interpreter.TensorHandle:
        product = (wide(a) @ wide(b)).astype(np.float32)
        return interpreter.TensorHandle(product + accumulator.data, tl.float32)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)


def check_decode(case: Case, cache: Cache | None = None) -> tuple[Tensor, Tensor]:
    cache = cache or Cache(case)
    query = random_query(case, len(case.contexts))
    out = torch.full((len(query), case.heads, case.head_dim), float("nan"), dtype=case.dtype)
    lengths = torch.tensor(case.contexts, dtype=torch.int32)
    given = triton_attention.decode(
        query, cache.key_cache, cache.value_cache, cache.tables, lengths, case.scale, case.window, case.softcap, out,
        splits=case.splits,
    )  # fmt: skip
    assert given is out
    for i, length in enumerate(case.contexts):
        if length == 0:
            assert not out[i].any()
        else:
            assert_close(out[i], eager(case, query[i : i + 1], cache.keys[i], cache.values[i])[0], case.dtype)
    return query, out


def prefill(case: Case, cache: Cache, query: Tensor, max_new: int) -> Tensor:
    begins = torch.tensor([0, *itertools.accumulate(case.news)], dtype=torch.int32)
    lengths = torch.tensor(case.contexts, dtype=torch.int32)
    out = torch.full((len(query) + 1, case.heads, case.head_dim), float("nan"), dtype=case.dtype)
    triton_attention.prefill(
        query, cache.key_cache, cache.value_cache, cache.tables, begins, lengths, max_new, case.scale, case.window,
        case.softcap, out[:-1],
    )  # fmt: skip
    assert out[-1].isnan().all(), "wrote past its rows"
    return out[:-1]


def check_prefill(case: Case, cache: Cache | None = None) -> None:
    cache = cache or Cache(case)
    query = random_query(case, sum(case.news))
    lengths = list(case.news)
    runs = torch.split(prefill(case, cache, query, max(lengths)), lengths)
    queries = torch.split(query, lengths)
    for run, asked, keys, values in zip(runs, queries, cache.keys, cache.values, strict=True):
        if len(run):
            assert_close(run, eager(case, asked, keys, values), case.dtype)


@pytest.fixture(autouse=True)
def seeded(request: pytest.FixtureRequest) -> None:
    torch.manual_seed(sum(request.node.name.encode()))


def each_dtype() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dtype", DTYPES if __test__ else [], ids=str)


@each_dtype()
@pytest.mark.parametrize("head_dim", [32, 64, 80, 96, 128, 256])
def test_decode_with_each_head_size(head_dim: int, dtype: torch.dtype) -> None:
    check_decode(Case((1, 16, 37, 0), head_dim=head_dim, dtype=dtype, splits=1))


@each_dtype()
@pytest.mark.parametrize("head_dim", [32, 64, 80, 96, 128, 256])
def test_prefill_with_each_head_size(head_dim: int, dtype: torch.dtype) -> None:
    check_prefill(Case((1, 37, 20), (1, 20, 20), head_dim=head_dim, dtype=dtype))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (8, 1), (6, 2), (21, 3), (71, 1)])
def test_each_way_to_share_heads(heads: int, kv_heads: int) -> None:
    case = Case((33, 5), (9, 1), heads=heads, kv_heads=kv_heads, dtype=torch.float32)
    check_decode(case)
    check_decode(replace(case, splits=2))
    check_prefill(case)


@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 40])
@pytest.mark.parametrize("splits", [1, 4])
def test_decode_at_borders_of_blocks_windows_and_chunks(block_size: int, window: int | None, splits: int) -> None:
    lengths = (1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 257)
    check_decode(
        Case(lengths, heads=2, kv_heads=1, block_size=block_size, window=window, dtype=torch.float32, splits=splits)
    )


@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 40])
def test_prefill_at_borders_of_blocks_and_windows(block_size: int, window: int | None) -> None:
    case = Case(
        (1, 16, 17, 32, 33, 65, 7), (1, 16, 1, 15, 33, 2, 0), heads=3, kv_heads=1, block_size=block_size, window=window
    )
    check_prefill(replace(case, dtype=torch.float32))


@each_dtype()
@pytest.mark.parametrize("softcap", [1.0, 50.0])
def test_softcap(softcap: float, dtype: torch.dtype) -> None:
    case = Case((40, 3), (7, 3), softcap=softcap, window=20, dtype=dtype, splits=2)
    check_decode(case)
    check_prefill(case)


@pytest.mark.parametrize("splits", [2, 8, 64])
def test_a_long_context_in_many_chunks(splits: int) -> None:
    check_decode(Case((1100, 0, 2), heads=2, kv_heads=1, dtype=torch.float32, splits=splits))


def test_a_prompt_of_several_tiles() -> None:
    check_prefill(Case((150, 130), (150, 70), heads=4, kv_heads=1, dtype=torch.float16))


@pytest.mark.parametrize("decodes", [1, 40])
def test_rows_before_the_first_run_and_after_the_last_are_not_written(decodes: int) -> None:
    case = Case((7, 150, 3), (7, 70, 0), heads=4, kv_heads=1, dtype=torch.float32)
    cache = Cache(case)
    query = random_query(case, decodes + 77 + 50)
    begins = torch.tensor([decodes, decodes + 7, decodes + 77, decodes + 77], dtype=torch.int32)
    out = torch.full((len(query), case.heads, case.head_dim), 7.0)
    triton_attention.prefill(
        query, cache.key_cache, cache.value_cache, cache.tables, begins, torch.tensor(case.contexts, dtype=torch.int32),
        len(query), case.scale, None, None, out,
    )  # fmt: skip
    assert (out[:decodes] == 7).all()
    assert (out[decodes + 77 :] == 7).all()
    for i, run in enumerate([slice(decodes, decodes + 7), slice(decodes + 7, decodes + 77)]):
        assert_close(out[run], eager(case, query[run], cache.keys[i], cache.values[i]), case.dtype)


def test_blocks_behind_the_window_are_not_read() -> None:
    case = Case((300, 100), news=(9, 9), window=20, dtype=torch.float32, splits=2)
    cache = Cache(case)
    for row, length in enumerate(case.contexts):
        cache.forget_before(row, length - 9 - 20 + 1)
    check_prefill(case, cache)
    for row, length in enumerate(case.contexts):
        cache.forget_before(row, length - 20)
    check_decode(case, cache)


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(seed: int) -> None:
    choose = random.Random(seed)
    kv_heads, count = choose.choice([1, 2, 3]), choose.randint(1, 5)
    news = (*(choose.choice([0, 1, 2, 15, 16, 17, 30]) for _ in range(count - 1)), choose.randint(1, 40))
    case = Case(
        contexts=tuple(new + choose.choice([0, 1, 15, 16, 33]) if new else 0 for new in news),
        news=news,
        heads=kv_heads * choose.choice([1, 2, 3, 5]),
        kv_heads=kv_heads,
        head_dim=choose.choice([32, 48, 64, 80]),
        block_size=choose.choice([16, 32]),
        window=choose.choice([None, None, 3, 16, 30]),
        softcap=choose.choice([None, None, 20.0]),
        dtype=choose.choice(DTYPES),
        splits=choose.choice([None, 1, 2, 4]),
    )
    check_decode(case)
    check_prefill(case)


def test_agrees_with_torch_sdpa() -> None:
    case = Case((50,), (50,), heads=4, kv_heads=2, dtype=torch.float32)
    cache = Cache(case)
    query = random_query(case, 50)
    found = prefill(case, cache, query, 50)
    q, k, v = (tensor.transpose(0, 1)[None] for tensor in (query, cache.keys[0], cache.values[0]))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    assert_close(found, expected[0].transpose(0, 1).double(), torch.float32)


def test_a_prompt_in_chunks_has_the_bits_of_the_whole_prompt() -> None:
    whole = Case((90,), (90,), dtype=torch.float32)
    cache = Cache(whole)
    query = random_query(whole, 90)
    expected = prefill(whole, cache, query, 90)
    for begin, end in [(0, 33), (33, 34), (34, 90)]:
        chunk = replace(whole, contexts=(end,), news=(end - begin,))
        assert torch.equal(prefill(chunk, cache, query[begin:end], 90), expected[begin:end])


def test_decode_with_given_splits_has_the_same_bits_alone_and_in_a_batch() -> None:
    case = Case((150, 40, 300), dtype=torch.float32, splits=4)
    cache = Cache(case)
    query, together = check_decode(case, cache)
    for i, length in enumerate(case.contexts):
        alone = triton_attention.decode(
            query[i : i + 1], cache.key_cache, cache.value_cache, cache.tables[i : i + 1],
            torch.tensor([length], dtype=torch.int32), case.scale, None, None, torch.empty_like(together[:1]), splits=4,
        )  # fmt: skip
        assert torch.equal(alone[0], together[i])


def test_tiles_are_not_larger_than_a_chunk() -> None:
    tables = [triton_attention_tiles.DECODE_TILES, triton_attention_tiles.PREFILL_TILES]
    for tiles in itertools.chain(*(table.values() for table in tables)):
        assert triton_attention_tiles.CHUNK_TOKENS % tiles.tokens == 0
        assert tiles.rows >= 16
