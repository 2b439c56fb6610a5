"""The runner's candidates and sums, what it reports and refuses, and out-of-memory handling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Output
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition, ResourceExhausted
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.attention import triton_attention
from infermesh_worker_xpu.execution.logits import TorchLogits
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner, Reference


@pytest.fixture
def llama(tiny_runner: MakeRunner) -> Iterator[TorchRunner]:
    runner = tiny_runner("llama")
    yield runner
    runner.close()


def test_candidates_and_sums_agree_with_the_whole_row() -> None:
    torch.manual_seed(0)
    inverse_temperatures = np.array([1.0, 2.0, 0.5], np.float32)
    logits = TorchLogits(torch.randn(4, 500).bfloat16(), inverse_temperatures)
    assert logits.top_ids.shape == (3, 64)
    assert logits.top_ids.dtype == np.int32
    for index, inverse_temperature in enumerate(inverse_temperatures):
        row = logits.row(index).astype(np.float64)
        order = np.lexsort((np.arange(len(row)), -row))[:64]
        assert np.array_equal(logits.top_logits[index], row[order])
        # Which of several equal logits comes 64th is undefined; all others are ordered by id.
        decided = row[order] > row[order[-1]]
        assert np.array_equal(logits.top_ids[index][decided], order[decided])
        assert logits.logsumexp[index] == pytest.approx(np.logaddexp.reduce(row), abs=1e-4)
        scaled = np.logaddexp.reduce(row * inverse_temperature)
        assert logits.scaled_logsumexp[index] == pytest.approx(scaled, abs=1e-4)


def test_a_small_vocabulary_is_all_candidates() -> None:
    logits = TorchLogits(torch.randn(2, 20), np.ones(2, np.float32))
    assert sorted(logits.top_ids[0].tolist()) == list(range(20))
    assert logits.scaled_logsumexp is logits.logsumexp


def test_a_batch_without_rows_computes_kv_only(llama: TorchRunner, feed: type[Feed], reference: Reference) -> None:
    ids = np.random.default_rng(1).integers(3, 160, 40)
    one = feed(llama, [ids])
    batch = one.batch({0: 30})
    empty = replace(batch, rows=batch.rows[:0], inverse_temperatures=batch.inverse_temperatures[:0])
    assert llama.run(empty).top_ids.shape == (0, 64)
    one.done[0] = 30
    np.testing.assert_allclose(one.run({0: 10})[0], reference("llama", ids)[-1], atol=2e-4, rtol=1e-3)


def test_info_tells_the_models_and_the_machines_figures(llama: TorchRunner) -> None:
    info = llama.info
    assert (info.device_kind, info.vocab_size, info.context_length, info.block_size) == ("cpu", 160, 512, 32)
    assert info.device_name == machine.processor_name()
    assert info.memory_total_bytes == machine.memory_total_bytes()
    assert 0 < llama.memory_free_bytes() <= info.memory_total_bytes
    # 3 layers, keys and values of 2 heads of 16 in fp32
    assert info.num_blocks == (8 << 20) // (3 * 2 * 32 * 2 * 16 * 4)
    assert info.runtime.startswith(f"torch {torch.__version__.partition('+')[0]}")
    assert info.runtime.endswith(" (float32, sdpa)")
    assert info.weights_bytes > 100_000


def test_no_accelerator_is_said_where_the_runtime_is_told(
    tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    runner = tiny_runner("llama", device="auto")
    assert runner.info.runtime.endswith("running on the CPU: torch found no accelerator)")
    assert runner.info.device_kind == "cpu"


@pytest.mark.parametrize("kind", ["xpu", "cuda"])
def test_a_device_that_is_not_there_is_refused(
    kind: str, tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    with pytest.raises(FailedPrecondition, match=f"No {kind} device is available"):
        tiny_runner("llama", device=kind)


def test_four_bits_are_refused_on_a_processor_without_kernels(
    tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.raises(FailedPrecondition, match="int4 needs AVX-512"):
        tiny_runner("llama", dtype="bf16", quantisation="int4")


def test_a_kv_cache_without_room_for_a_block_is_refused(tiny_runner: MakeRunner) -> None:
    with pytest.raises(FailedPrecondition, match="one block of 32 tokens needs"):
        tiny_runner("llama", kv_cache_bytes=1000)


def test_triton_on_processors_is_refused_with_its_reason(
    tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "the package triton is not installed"
    monkeypatch.setattr(triton_attention, "available", lambda device: triton_attention.Availability(False, reason))
    with pytest.raises(FailedPrecondition, match=reason):
        tiny_runner("llama", attention="triton")


def test_what_the_kernels_refuse_is_refused_at_load(tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise ValueError("head_dim 16 is odd")

    monkeypatch.setattr("infermesh_worker_xpu.attention.sdpa.write_kv", refuse)
    with pytest.raises(FailedPrecondition, match="head_dim 16 is odd"):
        tiny_runner("llama")


def test_no_memory_at_load_is_a_failed_precondition(tiny_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: Any) -> None:
        raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    monkeypatch.setattr("infermesh_worker_xpu.execution.kv_memory.allocate", exhausted)
    with pytest.raises(FailedPrecondition, match="too little memory for this model's KV cache"):
        tiny_runner("llama")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="holds no weights"):
        load_runner(tmp_path, TorchOptions(device="cpu"))


class ShortMemory:
    """Runs out of memory in passes of more than `limit` tokens, as a device's allocator would."""

    def __init__(self, forward: Callable[..., Any] | None, limit: int, error: Exception) -> None:
        self.forward, self.limit, self.error = forward, limit, error
        self.refused = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > self.limit:
            self.refused += 1
            raise self.error
        assert self.forward is not None
        return self.forward(*args, **kwargs)


ERRORS = [
    torch.OutOfMemoryError("tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    MemoryError("numpy"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_is_resource_exhausted_and_the_next_batch_runs(
    error: Exception, llama: TorchRunner, feed: type[Feed], reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(1).integers(3, 160, 40)
    one = feed(llama, [ids])
    monkeypatch.setattr(llama._model, "forward", ShortMemory(llama._model.forward, 16, error))
    with pytest.raises(ResourceExhausted, match="too little memory for this batch"):
        one.run({0: 40})
    for _ in range(4):
        last = one.run({0: 10})[0]
    np.testing.assert_allclose(last, reference("llama", ids)[-1], atol=2e-4, rtol=1e-3)


def test_another_error_is_not_taken_for_it(
    llama: TorchRunner, feed: type[Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = feed(llama, [np.arange(3, 20)])
    monkeypatch.setattr(llama._model, "forward", ShortMemory(None, 0, RuntimeError("size mismatch")))
    with pytest.raises(RuntimeError, match="size mismatch"):
        one.run({0: 3})


def request(request_id: str, length: int) -> GenerationRequest:
    ids = tuple(int(i) for i in np.random.default_rng(length).integers(3, 160, length))
    stop = StopConditions(max_tokens=4, ignore_eos=True)
    sampling = SamplingParams(temperature=0.0)
    return GenerationRequest(request_id=request_id, prompt_token_ids=ids, sampling=sampling, stop=stop, seed=1)


def run_all(
    runner: TorchRunner, default_tokenizer: Tokenizer, limit: int, monkeypatch: pytest.MonkeyPatch, *lengths: int
) -> tuple[list[Output], ShortMemory]:
    short = ShortMemory(runner._model.forward, limit, torch.OutOfMemoryError("full"))
    monkeypatch.setattr(runner._model, "forward", short)
    engine = Engine(runner, default_tokenizer, frozenset(), EngineConfig(max_sequences=8, max_batched_tokens=128))
    for i, length in enumerate(lengths):
        engine.submit(request(str(i), length))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    return outputs, short


@pytest.fixture
def tokenizer(default_model: Path) -> Tokenizer:
    return ModelFolder.open(default_model).load_tokenizer()


def test_the_batch_shrinks_until_it_fits(
    llama: TorchRunner, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, short = run_all(llama, tokenizer, 20, monkeypatch, 60, 50, 7)
    assert short.refused > 0
    assert sum(len(o.token_ids) for o in outputs if isinstance(o, Delta)) == 12
    assert not any(isinstance(o, Failed) for o in outputs)


def test_a_request_that_cannot_fit_alone_fails_and_the_process_lives(
    llama: TorchRunner, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, _ = run_all(llama, tokenizer, 0, monkeypatch, 60)
    assert [o.error.reason for o in outputs if isinstance(o, Failed)] == ["RESOURCE_EXHAUSTED"]
    monkeypatch.undo()
    outputs, _ = run_all(llama, tokenizer, 1000, monkeypatch, 60)
    assert sum(len(o.token_ids) for o in outputs if isinstance(o, Delta)) == 4
