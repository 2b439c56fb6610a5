"""Steps with prefills as graphs: parts, padding and limits, on CPU torch with graphs that replay eagerly."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from infermesh_worker_xpu.execution.capture_sizes import token_sizes

if TYPE_CHECKING:
    from conftest import EagerGraph, Feed, MakeRunner, Reference


def random_sequences(count: int, length: int) -> list[NDArray[np.int64]]:
    return [np.random.default_rng(i).integers(3, 160, length) for i in range(count)]


def test_sizes_are_at_most_a_quarter_apart_and_end_with_the_largest_step() -> None:
    assert token_sizes(1) == [1]
    assert token_sizes(100) == [64, 100]
    assert token_sizes(700) == [64, 128, 192, 256, 320, 384, 448, 512, 640, 700]
    sizes = token_sizes(100_000)
    assert sizes[-1] == 4096
    assert len(sizes) == 20
    assert all(after <= 1.25 * before for before, after in itertools.pairwise(sizes[3:]))


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gemma2", "phi"])
def test_logits_are_those_of_the_model(
    name: str, graph_runner: MakeRunner, feed: type[Feed], reference: Reference, made: list[EagerGraph]
) -> None:
    sequences = random_sequences(5, 110)
    each = feed(graph_runner(name), sequences)
    steps: list[dict[int, int]] = [
        {0: 30},  # a prefill alone
        {0: 1, 1: 40},  # with a decode
        {0: 1, 1: 1, 2: 64, 3: 50},  # two of each
        {0: 1, 2: 5, 1: 1, 3: 1},  # short runs, and runs of one token after them
        {3: 7, 4: 100},  # no decode, after steps with decodes
    ]
    for number, runs in enumerate(steps, start=1):
        for i, row in each.run(runs).items():
            expected = reference(name, sequences[i][: each.done[i]])[-1]
            np.testing.assert_allclose(row, expected, atol=2e-4, rtol=1e-3)
        assert sum(graph.replays for graph in made) == number


def test_padding_writes_to_the_padding_block_only(graph_runner: MakeRunner, feed: type[Feed]) -> None:
    runner = graph_runner("llama")
    attention = next(m for m in runner._model.modules() if hasattr(m, "layer_idx"))
    layer: Any = attention.infermesh_layer
    each = feed(runner, random_sequences(2, 60))
    each.run({0: 40})
    before = layer.key_cache.clone()
    each.run({0: 1, 1: 33})
    changed = (layer.key_cache != before).flatten(2).any(2).nonzero().tolist()
    tables = each.tables
    own = [[int(tables[0][1]), 8], *([int(tables[1][at // 32]), at % 32] for at in range(33))]
    assert [entry for entry in changed if entry[0] != runner.info.num_blocks] == sorted(own)


def test_a_batch_that_needs_no_logits_or_many_still_runs(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, made: list[EagerGraph]
) -> None:
    runner = graph_runner("llama")
    sequences = random_sequences(2, 90)
    each = feed(runner, sequences)
    each.run({0: 30})
    batch = each.batch({0: 1, 1: 40})
    runner.run(replace(batch, rows=batch.rows[:0], inverse_temperatures=batch.inverse_temperatures[:0]))
    assert sum(graph.replays for graph in made) == 2
    rows = np.arange(20, 41, dtype=np.int32)  # more than there may be sequences
    logits = runner.run(replace(batch, rows=rows, inverse_temperatures=np.ones(len(rows), np.float32)))
    assert sum(graph.replays for graph in made) == 2
    expected = reference("llama", sequences[1][:40])
    for index, row in enumerate(rows):
        np.testing.assert_allclose(logits.row(index), expected[row - 1], atol=2e-4, rtol=1e-3)


def test_a_step_beyond_the_largest_size_runs_plainly(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, made: list[EagerGraph]
) -> None:
    sequences = random_sequences(1, 200)
    each = feed(graph_runner("llama"), sequences)
    found = each.run({0: 150})
    np.testing.assert_allclose(found[0], reference("llama", sequences[0][:150])[-1], atol=2e-4, rtol=1e-3)
    assert sum(graph.replays for graph in made) == 0


def test_decodes_keep_their_graphs_where_other_steps_cannot_be_captured(
    graph_runner: MakeRunner, feed: type[Feed], reference: Reference, made: list[EagerGraph]
) -> None:
    def refuse_mixed(_: Tensor) -> None:
        if len(made) in {1, 4}:  # the first while measuring, two of decodes after it, and the first that would serve
            raise RuntimeError("called a synchronizing CUDA operation")

    runner = graph_runner("llama", check=refuse_mixed)
    assert runner._pass.graph_sizes == [[1, 2, 4, 8]]
    ids = random_sequences(1, 50)[0]
    each = feed(runner, [ids])
    for tokens in (40, 1):
        found = each.run({0: tokens})[0]
        np.testing.assert_allclose(found, reference("llama", ids[: each.done[0]])[-1], atol=2e-4, rtol=1e-3)
    assert sum(graph.replays for graph in made) == 1
