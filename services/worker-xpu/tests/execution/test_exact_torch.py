"""INFERMESH_NUMERICS=exact on torch: the same bits however a sequence is split or batched."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from infermesh_engine.requests.request import Continuation, GenerationRequest, SamplingParams
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_xpu.execution import exactness

if TYPE_CHECKING:
    from conftest import Feed, MakeHarness, MakeRunner

SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)


@pytest.fixture(params=["greedy", "sampled"])
def sampling(request: pytest.FixtureRequest) -> SamplingParams:
    return SamplingParams(temperature=0.0) if request.param == "greedy" else SAMPLED


def alone(harness: Harness, prompt: str, **fields: Any) -> tuple[int, ...]:
    return harness.tokens(harness.request("alone", prompt, **fields))["alone"]


def test_logits_are_bit_identical_however_they_are_cut(exact_model: BuiltModel, feed: type[Feed]) -> None:
    ids = np.random.default_rng(3).integers(300, 40_000, 300)
    whole = feed(exact_model.runner, [ids]).run({0: 300})[0]
    for cuts in ([32, 7, 261], [255, 2, 43], [1] * 3 + [294] + [1] * 3, [100, 100, 100]):
        one = feed(exact_model.runner, [ids], seed=len(cuts))
        for cut in cuts:
            last = one.run({0: cut})[0]
        assert np.array_equal(last, whole), cuts


@pytest.mark.parametrize("size", [2, 3, 7, 16, 33])
def test_logits_are_bit_identical_in_any_batch(size: int, exact_model: BuiltModel, feed: type[Feed]) -> None:
    rng = np.random.default_rng(size)
    sequences = [rng.integers(300, 40_000, int(rng.integers(2, 60))) for _ in range(size)]
    together = feed(exact_model.runner, sequences)
    together.run({i: len(ids) - 1 for i, ids in enumerate(sequences)})
    rows = together.run(dict.fromkeys(range(size), 1))
    for i in (0, size // 2, size - 1):
        single = feed(exact_model.runner, [sequences[i]], seed=i)
        assert np.array_equal(single.run({0: len(sequences[i])})[0], rows[i])


def test_a_decode_beside_a_prefill_is_bit_identical(exact_model: BuiltModel, feed: type[Feed]) -> None:
    rng = np.random.default_rng(5)
    pair = [rng.integers(300, 40_000, 50), rng.integers(300, 40_000, 90)]
    mixed = feed(exact_model.runner, pair)
    mixed.run({0: 49})
    rows = mixed.run({0: 1, 1: 90})
    for i, ids in enumerate(pair):
        assert np.array_equal(feed(exact_model.runner, [ids], seed=9).run({0: len(ids)})[0], rows[i])


def test_a_continuation_at_any_index_equals_the_plain_run(
    exact_model: BuiltModel, harness_of: MakeHarness, prompts: tuple[str, ...], sampling: SamplingParams
) -> None:
    exact = harness_of(exact_model, max_batched_tokens=512)
    expected = alone(exact, prompts[4], tokens=16, sampling=sampling)
    for index in range(1, 16):
        generated = (Continuation(choice=0, token_ids=expected[:index]),)
        rest = alone(exact, prompts[4], tokens=16, sampling=sampling, generated=generated)
        assert rest == expected[index:], f"continued at {index}"


def test_preempt_and_resume_changes_nothing(
    tiny_runner: MakeRunner,
    harness_of: MakeHarness,
    exact_model: BuiltModel,
    prompts: tuple[str, ...],
    sampling: SamplingParams,
) -> None:
    """Uses a tiny model, so that the KV cache can be small enough to preempt."""
    # its vocabulary is smaller than the tokenizer's, so the prompts are made of low token ids
    runner = tiny_runner("llama", numerics="exact", kv_cache_bytes=8 * 3 * 2 * 32 * 2 * 16 * 4)
    model = replace(exact_model, runner=runner)

    def requests(harness: Harness) -> list[GenerationRequest]:
        made = (harness.request(str(i), "x", tokens=60, sampling=sampling) for i in range(5))
        return [replace(r, prompt_token_ids=tuple(range(3 + i, 23 + i))) for i, r in enumerate(made)]

    single = harness_of(model, prefix_caching=False)
    expected = {r.request_id: single.tokens(r)[r.request_id] for r in requests(single)}
    crowded = harness_of(model, prefix_caching=False)
    assert crowded.tokens(*requests(crowded)) == expected
    assert crowded.engine.load().preemptions > 0
    runner.close()


def test_threads_are_taken_away_until_it_holds(exact_model: BuiltModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(exactness, "find_difference", lambda runner: "threads" if torch.get_num_threads() > 1 else None)
    try:
        torch.set_num_threads(4)
        exactness.ensure_exact(exact_model.runner)
        assert torch.get_num_threads() == 1
        monkeypatch.setattr(exactness, "find_difference", lambda runner: "always")
        with pytest.raises(FailedPrecondition, match="does not hold"):
            exactness.ensure_exact(exact_model.runner)
    finally:
        torch.set_num_threads(before)
