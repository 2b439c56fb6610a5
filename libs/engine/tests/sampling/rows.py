"""Samples tokens from rows of logits that a test gives."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.runners.runner import CANDIDATES
from infermesh_engine.sampling.sampler import SampledToken, sample
from infermesh_engine.sampling.sampler_state import SamplerState


class RowLogits:
    """Logits made from whole rows, as a runner makes them; counts the rows that were read."""

    def __init__(self, rows: Any, states: Sequence[SamplerState]) -> None:
        self.rows = np.asarray(rows, dtype=np.float32)
        order = np.argsort(-self.rows, axis=1, kind="stable")[:, :CANDIDATES]
        self.top_ids = order.astype(np.int32)
        self.top_logits = np.take_along_axis(self.rows, order, axis=1)
        self.logsumexp = logsumexp(self.rows, np.ones(len(self.rows)))
        self.scaled_logsumexp = logsumexp(self.rows, np.array([state.inverse_temperature for state in states]))
        self.reads = 0

    def row(self, index: int) -> NDArray[np.float32]:
        self.reads += 1
        view: NDArray[np.float32] = self.rows[index]
        view.flags.writeable = False
        return view


def logsumexp(rows: NDArray[np.float32], scales: NDArray[np.float64]) -> NDArray[np.float32]:
    scaled = rows.astype(np.float64) * scales[:, None]
    largest = scaled.max(axis=1)
    result: NDArray[np.float32] = (np.log(np.exp(scaled - largest[:, None]).sum(axis=1)) + largest).astype(np.float32)
    return result


def make_state(vocab_size: int = 8, **options: Any) -> SamplerState:
    names: dict[str, Any] = {
        "seed": 1,
        "choice": 0,
        "prompt_token_ids": (),
        "logprobs": None,
        "min_tokens": 0,
        "grammar": None,
    }
    given_names = {name: options.pop(name) for name in [*names, "banned_until_min_tokens"] if name in options}
    fixed = {"banned_until_min_tokens": frozenset()} | names | given_names
    return SamplerState(SamplingParams(**options), vocab_size=vocab_size, **fixed)


def sampled_tokens(rows: Any, states: Sequence[SamplerState]) -> list[SampledToken]:
    """The tokens of `rows`, none of which fails."""
    return tokens_of(RowLogits(rows, states), states)


def tokens_of(logits: RowLogits, states: Sequence[SamplerState]) -> list[SampledToken]:
    tokens = sample(logits, states)
    assert not any(isinstance(token, Exception) for token in tokens), tokens
    return [token for token in tokens if isinstance(token, SampledToken)]


def one(row: Sequence[float], **options: Any) -> SampledToken:
    (sampled,) = sampled_tokens([row], [make_state(vocab_size=len(row), **options)])
    return sampled


def frequencies(row: Sequence[float], draws: int = 4000, **options: Any) -> NDArray[np.float64]:
    """How often each token is drawn by as many seeds."""
    states = [make_state(vocab_size=len(row), seed=seed, **options) for seed in range(draws)]
    sampled = sampled_tokens([row] * draws, states)
    return np.bincount([token.token_id for token in sampled], minlength=len(row)) / draws


def softmax(row: Sequence[float], temperature: float = 1.0) -> NDArray[np.float64]:
    weights = np.exp(np.array(row) / temperature)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares
