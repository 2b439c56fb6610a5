"""Tokens chosen in torch equal those of the engine's sampler, except for draws within rounding of a boundary."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.sampling import sampling_batch
from infermesh_engine.sampling.broken import BrokenLogitsError
from infermesh_engine.sampling.sampler import SampledToken, sample
from infermesh_engine.sampling.sampler_state import SamplerState
from infermesh_worker_xpu.execution.logits import TorchLogits
from infermesh_worker_xpu.sampling import choosing, ranking, sampling_tensors
from infermesh_worker_xpu.steps.upload import Upload


class Mask:
    """A grammar that allows some tokens."""

    is_finished = False

    def __init__(self, allowed: NDArray[np.bool_]) -> None:
        self._allowed = allowed

    def allowed_bits(self) -> NDArray[np.uint8]:
        return np.packbits(self._allowed, bitorder="little")

    def mask(self, row: NDArray[np.float32]) -> None:
        row[~self._allowed] = -np.inf

    def consume(self, token_id: int) -> None:
        pass


@dataclass
class Case:
    rows: NDArray[np.float32]
    states: list[SamplerState]


def state(rng: np.random.Generator, vocab: int, *, plain: bool = False) -> SamplerState:
    def maybe(*values: Any) -> Any:
        return values[0] if rng.random() < 0.5 else values[rng.integers(len(values))]

    edits = (
        {}
        if plain
        else {
            "repetition_penalty": maybe(1.0, 1.3, 0.7),
            "presence_penalty": maybe(0.0, 0.5, -1.0),
            "frequency_penalty": maybe(0.0, 0.3, -0.2),
            "logit_bias": maybe({}, {0: 5.0}, {int(i): float(rng.normal(0, 20)) for i in rng.integers(0, vocab, 4)}),
        }
    )
    params = SamplingParams(
        temperature=maybe(1.0, 0.0, 0.3, 1.7, 1e-4),
        top_k=int(maybe(0, 1, 5, 64, 65, 200)),
        top_p=maybe(1.0, 0.9, 0.5, 1e-6, 0.999),
        min_p=maybe(0.0, 0.05, 0.9, 1e-5),
        **edits,
    )
    allowed = rng.random(vocab) < maybe(0.5, 0.02)
    allowed[rng.integers(vocab)] = True
    made = SamplerState(
        params,
        seed=int(rng.integers(1 << 60)),
        choice=int(rng.integers(3)),
        prompt_token_ids=tuple(rng.integers(0, vocab, int(rng.integers(1, 60))).tolist()),
        logprobs=maybe(None, 0, 3, 20),
        banned_until_min_tokens=frozenset()
        if plain
        else maybe(frozenset(), frozenset(rng.integers(0, vocab, 3).tolist())),
        min_tokens=int(maybe(0, 5)),
        grammar=None if plain else maybe(None, Mask(allowed)),
        vocab_size=vocab,
    )
    for token_id in rng.integers(0, min(vocab, 9), int(rng.integers(0, 8))).tolist():
        made.observe(token_id)
    return made


def logits(rng: np.random.Generator, count: int, vocab: int) -> NDArray[np.float32]:
    rows = rng.normal(0, rng.choice([0.01, 1.0, 3.0, 8.0]), (count, vocab)).astype(np.float32)
    if rng.random() < 0.4:  # like a model in bf16, where many logits are equal
        rows = torch.from_numpy(rows).bfloat16().float().numpy()
    if rng.random() < 0.1:
        rows[:] = rng.choice([0.0, -0.0, 1.0], rows.shape)
    return rows


def device_tokens(rows: NDArray[np.float32], states: list[SamplerState], wide: torch.dtype) -> list[SampledToken]:
    named = list(enumerate(states))
    batch, errors = sampling_batch.build(named, len(states))
    assert not errors
    tensor = torch.from_numpy(rows.copy())
    sent = sampling_tensors.upload_batch(batch, rows.shape[1], Upload(torch.device("cpu")), wide)
    chosen = choosing.choose_tokens(tensor, sent)
    assert np.array_equal(tensor.numpy(), rows, equal_nan=True)
    tokens = sampling_batch.read(choosing.to_tokens([tensor.numpy() for tensor in chosen.tensors], batch), named)
    return [token for token in tokens if isinstance(token, SampledToken)]


def accepts(row: NDArray[np.float32], state: SamplerState, got: int, tolerance: float) -> bool:
    """Whether the token follows from a uniform number and filters within `tolerance` of the state's."""
    adjusted = (state.adjusted(row) if state.needs_row else row).astype(np.float64)
    inverse, top_k, top_p, min_p = state.filters
    order = np.lexsort((np.arange(len(row)), -adjusted))
    weights = np.exp((adjusted[order] - adjusted[order[0]]) * inverse)
    place = int(np.flatnonzero(order == got)[0])
    sums = np.cumsum(weights)
    kept_k = int(top_k) if top_k else len(row)
    mass_k = sums[min(kept_k, len(row)) - 1]
    outcomes = set()
    for p_off in (-tolerance, tolerance):
        kept_p = int((sums < (top_p + p_off) * mass_k).sum()) + 1 if top_p < 1 else len(row)
        for m_off in (1 - tolerance, 1 + tolerance):
            kept_m = int((weights >= min_p * m_off).sum()) if min_p > 0 else len(row)
            kept = max(1, min(kept_k, kept_p, kept_m, len(row)))
            for u_off in (-tolerance, tolerance):
                target = (state.uniform + u_off) * sums[kept - 1]
                outcomes.add(min(int((sums <= target).sum()), kept - 1))
    return min(outcomes) <= place <= max(outcomes)


def check(rows: NDArray[np.float32], states: list[SamplerState], wide: torch.dtype = torch.float64) -> int:
    """Compares both samplers. Returns how many tokens differ, all within rounding."""
    expected = sample(
        TorchLogits(torch.from_numpy(rows), np.array([s.inverse_temperature for s in states], np.float32)), states
    )
    near_ties = 0
    tolerance = 2e-6 if wide == torch.float64 else 2e-5
    for row, state_, want, got in zip(rows, states, expected, device_tokens(rows, states, wide), strict=True):
        assert isinstance(want, SampledToken)
        if got.token_id != want.token_id:
            assert not state_.greedy
            assert accepts(row, state_, got.token_id, tolerance), (state_.filters, got, want)
            near_ties += 1
        elif want.logprob is None:
            assert got.logprob is None
        else:
            assert got.logprob == pytest.approx(want.logprob, abs=1e-5)
            assert len(got.top) == len(want.top)
            assert [lp for _, lp in got.top] == pytest.approx([lp for _, lp in want.top], abs=1e-5)
            order = np.lexsort((np.arange(len(row)), -row))[: len(got.top)]
            assert [i for i, _ in got.top] == order.tolist()
    return near_ties


@pytest.mark.parametrize("vocab", [8, 63, 64, 65, 160, 1000, 4099])
@pytest.mark.parametrize("wide", [torch.float64, torch.float32])
def test_thousands_of_rows_get_the_engine_samplers_tokens(vocab: int, wide: torch.dtype) -> None:
    rng = np.random.default_rng(vocab)
    differ = total = 0
    for _ in range(25):
        count = int(rng.integers(1, 24))
        plain = rng.random() < 0.3
        states = [state(rng, vocab, plain=plain) for _ in range(count)]
        differ += check(logits(rng, count, vocab), states, wide)
        total += count
    assert differ <= (0.003 if wide == torch.float64 else 0.02) * total + 1


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 40), vocab=st.integers(1, 300), count=st.integers(1, 6))
def test_any_row_gets_the_engine_samplers_token(seed: int, vocab: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    check(logits(rng, count, vocab), [state(rng, vocab) for _ in range(count)])


def test_a_row_does_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(5)
    rows, states = logits(rng, 16, 500), [state(rng, 500) for _ in range(16)]
    together = device_tokens(rows, states, torch.float64)
    for i in range(16):
        (alone,) = device_tokens(rows[i : i + 1], states[i : i + 1], torch.float64)
        assert alone.token_id == together[i].token_id


def test_the_order_is_by_logit_then_id() -> None:
    row = torch.tensor([[0.0, -0.0, 2.0, -3.0, 2.0, float("-inf"), 2.0]])
    ids, values = ranking.top(row, 7)
    assert ids.tolist() == [[2, 4, 6, 0, 1, 3, 5]]
    assert torch.equal(values, row[0, ids[0]][None])
    assert ranking.top(row, 2)[0].tolist() == [[2, 4]]
    assert ranking.top(row, 1)[0].tolist() == [[2]]


def test_broken_logits_give_no_token() -> None:
    rng = np.random.default_rng(1)
    rows = logits(rng, 4, 100)
    rows[0] = -np.inf
    rows[1, 7] = np.nan
    rows[2, 9] = np.inf
    for plain in (True, False):
        states = [state(rng, 100, plain=plain) for _ in range(4)]
        named = list(enumerate(states))
        batch, _ = sampling_batch.build(named, 4)
        sent = sampling_tensors.upload_batch(batch, 100, Upload(torch.device("cpu")), torch.float64)
        chosen = choosing.choose_tokens(torch.from_numpy(rows), sent)
        got = sampling_batch.read(choosing.to_tokens([tensor.numpy() for tensor in chosen.tensors], batch), named)
        assert [type(token) for token in got] == [BrokenLogitsError] * 3 + [SampledToken]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_sampled_as_it_is(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(2)
    half = torch.from_numpy(logits(rng, 12, 900)).to(dtype)
    states = [state(rng, 900) for _ in range(12)]
    named = list(enumerate(states))
    batch, _ = sampling_batch.build(named, 12)
    sent = sampling_tensors.upload_batch(batch, 900, Upload(torch.device("cpu")), torch.float64)
    got = choosing.choose_tokens(half, sent).token_ids.tolist()
    assert got == [s.token_id for s in device_tokens(half.float().numpy(), states, torch.float64)]
