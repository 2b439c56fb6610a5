"""Steps of few tokens run on the second graph, which continues what the first one has put into the KV cache."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch
from infermesh_runtime import machine
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_cpu.front import footprint
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from infermesh_worker_cpu.settings import WorkerCpuSettings
from infermesh_worker_cpu.small_step_graph import SMALL_STEP_TOKENS
from infermesh_worker_cpu.small_steps.choice import is_wanted

PROMPT = np.random.default_rng(11).integers(300, 40_000, 2 * SMALL_STEP_TOKENS)


def chunk(begin: int, end: int) -> Batch:
    """The tokens from `begin` to `end` of PROMPT, with the logits of each."""
    blocks = np.arange(-(-end // 32), dtype=np.int32)
    return Batch(
        token_ids=PROMPT[begin:end],
        positions=np.arange(begin, end),
        past_lens=np.array([begin], np.int32),
        begins=np.array([0, end - begin], np.int32),
        blocks=blocks,
        block_begins=np.array([0, len(blocks)], np.int32),
        max_context_tokens=end,
        rows=np.arange(end - begin, dtype=np.int32),
        inverse_temperatures=np.ones(end - begin, np.float32),
    )


def log_probabilities(runner: OpenVinoRunner, *chunks: int) -> NDArray[np.float64]:
    """Of the last chunk's tokens."""
    begin = 0
    for count in chunks:
        logits = runner.run(chunk(begin, begin + count))
        begin += count
    rows = np.stack([logits.row(index) for index in range(chunks[-1])]).astype(np.float64)
    normalised: NDArray[np.float64] = rows - np.logaddexp.reduce(rows, axis=1, keepdims=True)
    return normalised


def test_both_graphs_agree_and_continue_each_other(
    default_model: Path, fast_model: BuiltModel, exact_model: BuiltModel
) -> None:
    both, exact = fast_model.runner, exact_model.runner
    assert isinstance(both, OpenVinoRunner)
    assert isinstance(exact, OpenVinoRunner)
    if not both.has_small_step_graph:
        pytest.skip("this processor does not compute in bf16")
    one = OpenVinoRunner(
        default_model / "openvino" / "openvino_model.xml",
        OpenVinoOptions(small_step_graph="off", kv_cache_bytes=64 << 20),
    )
    assert not one.has_small_step_graph
    both.run(chunk(0, 8))  # the first step of all runs on the first graph
    for chunks in ((8,), (SMALL_STEP_TOKENS + 8, 8), (SMALL_STEP_TOKENS, 8, 1)):
        expected, first, small = (log_probabilities(runner, *chunks) for runner in (exact, one, both))
        assert not np.array_equal(first, small)  # they are two graphs
        for got in (first, small):
            assert float((np.exp(expected) * (expected - got)).sum(axis=1).mean()) < 0.03  # in nats; measured: 0.01
    one.close()


def test_exact_has_one_graph(exact_model: BuiltModel) -> None:
    assert isinstance(exact_model.runner, OpenVinoRunner)
    assert not exact_model.runner.has_small_step_graph


def test_auto_weighs_the_weights_against_the_memory() -> None:
    sixteenth = machine.memory_total_bytes() // 16
    assert [is_wanted("auto", size) for size in (1, sixteenth, sixteenth + 1)] == [True, True, False]
    assert is_wanted("on", sixteenth + 1)
    assert not is_wanted("off", 1)


def test_the_footprint_counts_the_second_graph(default_model: Path) -> None:
    folder = ModelFolder.open(default_model)
    sizes = []
    for setting in ("on", "off"):
        found = footprint(folder, WorkerCpuSettings.model_validate({"small_step_graph": setting}))
        assert found is not None
        sizes.append(found.base_bytes)
    weights = (default_model / "openvino" / "openvino_model.bin").stat().st_size
    assert sizes[0] - sizes[1] == pytest.approx(2.5 * weights, rel=1e-6)
