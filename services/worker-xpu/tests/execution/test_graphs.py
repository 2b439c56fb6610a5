"""Steps as graphs: sizes and padding, on CPU torch with graphs that replay eagerly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.execution import graphs, kv_memory
from infermesh_worker_xpu.execution.capture_sizes import bucket_sizes
from infermesh_worker_xpu.execution.graphs import StepGraphs, why_not_captured
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.steps.decode_buffers import DecodeBuffers

if TYPE_CHECKING:
    from conftest import EagerGraph, Feed, MakeRunner, Reference

CPU = torch.device("cpu")


def test_buckets_are_fine_where_steps_are_short_and_end_with_the_largest_batch() -> None:
    assert bucket_sizes(1) == [1]
    assert bucket_sizes(3) == [1, 2, 3]
    assert bucket_sizes(36) == [1, 2, 4, 8, 16, 24, 32, 36]
    assert bucket_sizes(300)[-4:] == [256, 272, 288, 300]


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2", "phi", "qwen3"])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_logits_are_those_of_the_plain_path(
    name: str,
    count: int,
    *,
    graph_runner: MakeRunner,
    tiny_runner: MakeRunner,
    feed: type[Feed],
    made: list[EagerGraph],
) -> None:
    plain, captured = tiny_runner(name), graph_runner(name)
    draw = np.random.default_rng(count)
    sequences = [draw.integers(3, 160, length) for length in draw.integers(20, 120, count)]
    feeds = [feed(runner, sequences) for runner in (plain, captured)]
    prompts = {i: len(ids) - 12 for i, ids in enumerate(sequences)}
    for each in feeds:
        each.run(prompts)
    for _ in range(12):  # crosses a block's end
        expected, found = (each.run(dict.fromkeys(prompts, 1)) for each in feeds)
        for i in prompts:
            np.testing.assert_allclose(found[i], expected[i], atol=1e-4, rtol=1e-4)
    prefill_steps = int(sum(prompts.values()) <= 128)
    assert sum(graph.replays for graph in made) == 12 + prefill_steps


def test_batch_sizes_that_change_use_their_buckets_and_never_each_others_rows(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, made: list[EagerGraph]
) -> None:
    runner = graph_runner("llama")
    sequences = [np.random.default_rng(i).integers(3, 160, 60) for i in range(7)]
    each = feed(runner, sequences)
    each.run(dict.fromkeys(range(7), 20))
    for members in ([0, 1, 2, 3, 4, 5, 6], [3], [5, 1], [6, 0, 2], [2], [4, 3, 1, 0, 6]):
        for i, row in each.run(dict.fromkeys(members, 1)).items():
            expected = reference("llama", sequences[i][: each.done[i]])[-1]
            np.testing.assert_allclose(row, expected, atol=2e-4, rtol=1e-3)
    by_size = dict(zip([8, 4, 2, 1], made[-4:], strict=True))
    assert {size: graph.replays for size, graph in by_size.items()} == {8: 2, 4: 1, 2: 1, 1: 2}


def test_padding_writes_to_the_padding_block_only(graph_runner: MakeRunner, feed: type[Feed]) -> None:
    runner = graph_runner("llama")
    attention = next(m for m in runner._model.modules() if hasattr(m, "layer_idx"))
    layer: Any = attention.infermesh_layer
    each = feed(runner, [np.arange(3, 60) for _ in range(3)])
    each.run(dict.fromkeys(range(3), 40))
    before = layer.key_cache.clone()
    each.run(dict.fromkeys(range(3), 1))
    changed = (layer.key_cache != before).flatten(2).any(2).nonzero().tolist()
    own = [[int(table[40 // 32]), 40 % 32] for table in each.tables]
    assert sorted(changed) == sorted(entry for entry in changed if entry in own or entry[0] == runner.info.num_blocks)
    assert all(entry in changed for entry in own)


def test_health_says_that_graphs_serve(graph_runner: MakeRunner, tiny_runner: MakeRunner) -> None:
    assert graph_runner("llama").info.runtime.endswith("(float32, sdpa, graphs)")
    assert tiny_runner("llama").info.runtime.endswith("(float32, sdpa)")


def refuse_large(logits: Tensor) -> None:
    if len(logits) > 2:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")


def test_sizes_without_memory_are_left_out_and_run_plainly(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    runner = graph_runner("llama", check=refuse_large)
    assert runner._pass.graph_sizes == [[1, 2], []]
    assert [vars(record)["tokens"] for record in caplog.records if "this graph is skipped" in record.message][-4:] == [
        128,
        64,
        8,
        4,
    ]
    ids = np.random.default_rng(0).integers(3, 160, 50)
    each = feed(runner, [ids] * 3)
    each.run(dict.fromkeys(range(3), 40))
    for members in (range(3), range(2)):
        for i, row in each.run(dict.fromkeys(members, 1)).items():
            np.testing.assert_allclose(row, reference("llama", ids[: each.done[i]])[-1], atol=2e-4, rtol=1e-3)


def refuse_all(_: Tensor) -> None:
    raise RuntimeError("called a synchronizing CUDA operation")


def test_a_model_that_cannot_be_captured_is_served_plainly(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    runner = graph_runner("llama", check=refuse_all)
    assert any("run without graphs" in record.message for record in caplog.records)
    assert "graphs" not in runner.info.runtime
    ids = np.arange(3, 30)
    each = feed(runner, [ids])
    each.run({0: 20})
    np.testing.assert_allclose(each.run({0: 1})[0], reference("llama", ids[:21])[-1], atol=2e-4, rtol=1e-3)


def test_memory_of_graphs_is_taken_from_the_kv_cache(graph_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    count = kv_memory.count_blocks

    def noted(*args: Any, reserved_bytes: int, **fields: Any) -> int:
        seen.append(reserved_bytes)
        return count(*args, reserved_bytes=reserved_bytes, **fields)

    monkeypatch.setattr(kv_memory, "count_blocks", noted)
    free = iter([1000, 900, 890, 890, 880, 875])
    monkeypatch.setattr("infermesh_worker_xpu.execution.forward.ForwardPass._free_bytes", lambda self: next(free))
    graph_runner("llama")
    mixed, decodes = 100 + 10, 10 + 3 * 5  # sizes 128, 64 and 8, 4, 2, 1
    assert seen == [mixed + decodes]


def test_graphs_are_for_accelerators_with_kernels_that_do_not_wait() -> None:
    cpu = devices.select("cpu", 0)
    assert why_not_captured(cpu, "sdpa", TorchOptions()) == "the CPU has no graphs"
    cuda = devices.TorchDevice(torch.device("cuda", 0))
    assert why_not_captured(cuda, "triton", TorchOptions()) == ""
    assert "sdpa attention waits" in why_not_captured(cuda, "sdpa", TorchOptions())
    assert why_not_captured(cuda, "triton", TorchOptions(graphs="off")) == "INFERMESH_GRAPHS=off"
    xpu = devices.TorchDevice(torch.device("xpu", 0))
    why_not = "" if hasattr(torch.xpu, "graph") else f"torch {torch.__version__} has no graphs on xpu"
    assert why_not_captured(xpu, "triton", TorchOptions()) == why_not


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_torch_has_what_a_device_graph_calls(kind: str) -> None:
    module = torch.get_device_module(kind)
    if kind == "xpu" and not hasattr(module, "graph"):
        pytest.skip("this torch has no graphs on xpu, and the worker does without")
    assert callable(module.graph)
    assert callable(module.graph_pool_handle)
    assert callable(module.stream)
    assert hasattr(module, "CUDAGraph" if kind == "cuda" else "XPUGraph")


def test_work_that_waits_is_refused_where_torch_can_tell() -> None:
    class Module:
        mode: int | str = 0

        def get_sync_debug_mode(self) -> int | str:
            return self.mode

        def set_sync_debug_mode(self, mode: int | str) -> None:
            self.mode = mode

    module = Module()
    with graphs._refusing_to_wait(module):
        assert module.get_sync_debug_mode() == "error"
    assert module.get_sync_debug_mode() == 0
    with graphs._refusing_to_wait(torch.xpu):
        pass


def test_nothing_captured_takes_no_batch(
    feed: type[Feed], tiny_runner: MakeRunner, eager_graph: type[EagerGraph]
) -> None:
    inputs = DecodeBuffers(max_rows=2, max_blocks=5, padding_block=7, block_size=32, device=CPU)
    empty = StepGraphs(inputs, lambda step: step.slots, eager_graph)
    assert empty.bucket(feed(tiny_runner("llama"), [np.arange(3, 9)]).batch({0: 1})) is None
