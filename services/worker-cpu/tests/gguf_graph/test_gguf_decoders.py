"""Each kind of decoder computes what its GGUF file says, compared with a reference in numpy."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch
from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import VOCABULARY, Recipe, Weights, write
from tests.gguf_files.reference import log_probabilities

TOLERANCE = 1e-2
IDS = [int(token) for token in np.random.default_rng(3).integers(0, VOCABULARY, 150)]
CHUNKS = (70, 79, 1)
"""A prompt in two chunks, then a decode step; windows end inside them."""

Run = Callable[[Path], NDArray[np.float64]]


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Recipe, Kind], tuple[Weights, Path]]:
    """Writes a recipe's file and its graph; returns the weights and the graph's path."""

    def make(recipe: Recipe, kind: Kind = Kind.F16) -> tuple[Weights, Path]:
        weights = write(tmp_path / "model.gguf", recipe, kind=kind)
        save_graph(tmp_path / "model.gguf", tmp_path / "model.xml", lambda what, share: None)
        return weights, tmp_path / "model.xml"

    return make


def run(xml: Path, chunks: Sequence[int] = CHUNKS) -> NDArray[np.float64]:
    """Log probabilities [tokens, vocabulary] by the runner, in exact numerics, chunk after chunk."""
    runner = OpenVinoRunner(xml, OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=1))
    blocks = np.arange(-(-len(IDS) // runner.info.block_size), dtype=np.int32)
    rows, past = [], 0
    for count in chunks:
        # exact numerics wants two tokens at least: one is fed again, as the engine does
        again = 1 if count == 1 else 0
        begin, end = past - again, past + count
        held = -(-end // runner.info.block_size)
        logits = runner.run(
            Batch(
                token_ids=np.array(IDS[begin:end], np.int64),
                positions=np.arange(begin, end, dtype=np.int64),
                past_lens=np.array([begin], np.int32),
                begins=np.array([0, end - begin], np.int32),
                blocks=blocks[:held],
                block_begins=np.array([0, held], np.int32),
                max_context_tokens=end,
                rows=np.arange(again, end - begin, dtype=np.int32),
                inverse_temperatures=np.ones(count, np.float32),
            )
        )
        rows += [logits.row(index).astype(np.float64) for index in range(count)]
        past = end
    runner.close()
    every = np.array(rows)
    largest = every.max(-1, keepdims=True)
    probabilities: NDArray[np.float64] = every - largest - np.log(np.exp(every - largest).sum(-1, keepdims=True))
    return probabilities


@pytest.mark.parametrize("name", RECIPES)
def test_log_probabilities_are_the_references(name: str, made: Callable[..., tuple[Weights, Path]]) -> None:
    recipe = RECIPES[name]
    weights, xml = made(recipe)
    expected = log_probabilities(recipe, weights, IDS)
    assert np.abs(run(xml) - expected).max() < TOLERANCE
    assert expected.std() > 0.5  # else nothing could differ
