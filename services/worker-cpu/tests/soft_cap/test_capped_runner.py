"""Attention with a soft cap computes what the reference does, and the same bits however its tokens are batched."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Batch, ModelRunner
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.soft_cap import parts
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.capped_gemma import Made
from tests.gguf_files.recipes import VOCABULARY, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

TOKENS, BLOCKS = 150, 5
Piece = tuple[int, int, int]
"""A sequence, and its tokens from the first to before the second."""


def test_log_probabilities_are_the_references(made: Made) -> None:
    expected = log_probabilities(made.recipe, made.weights, IDS)
    exact = log_probabilities_of(made.model(numerics="exact").runner)
    assert np.abs(exact - expected).max() < 1e-4
    fast = log_probabilities_of(made.model().runner, (70, 50, 29, 1))
    assert np.abs(fast - expected).mean() < 0.05


def test_quantised_weights_and_defaults_of_the_architecture(tmp_path: Path) -> None:
    recipe = RECIPES["gemma2-capped"]
    made = Made(recipe, write(tmp_path / "model.gguf", recipe, kind=Kind.Q4_0), tmp_path / "model.xml")
    save_graph(tmp_path / "model.gguf", made.xml, lambda what, share: None)
    got = log_probabilities_of(made.model(numerics="exact").runner)
    assert np.abs(got - log_probabilities(recipe, made.weights, IDS)).max() < 1e-4


def ids(sequence: int) -> NDArray[np.int64]:
    return np.random.default_rng(sequence).integers(0, VOCABULARY, TOKENS)


def batch(pieces: Sequence[Piece]) -> Batch:
    """Each sequence has blocks of its own, in descending order; every token's logits are wanted."""
    tables = [np.arange(-(-end // 32)) * -1 + sequence * BLOCKS + BLOCKS - 1 for sequence, _, end in pieces]
    counts = [end - begin for _, begin, end in pieces]
    return Batch(
        token_ids=np.concatenate([ids(sequence)[begin:end] for sequence, begin, end in pieces]),
        positions=np.concatenate([np.arange(begin, end) for _, begin, end in pieces]),
        past_lens=np.array([begin for _, begin, _ in pieces], np.int32),
        begins=np.cumsum([0, *counts], dtype=np.int32),
        blocks=np.concatenate(tables).astype(np.int32),
        block_begins=np.cumsum([0, *map(len, tables)], dtype=np.int32),
        max_context_tokens=max(end for _, _, end in pieces),
        rows=np.arange(sum(counts), dtype=np.int32),
        inverse_temperatures=np.ones(sum(counts), np.float32),
    )


def rows_of(runner: ModelRunner, pieces: Sequence[Piece]) -> list[NDArray[np.float32]]:
    """The logits of each piece's tokens."""
    logits = runner.run(batch(pieces))
    rows = np.array([logits.row(index) for index in range(sum(end - begin for _, begin, end in pieces))])
    return np.split(rows, np.cumsum([end - begin for _, begin, end in pieces])[:-1])


@pytest.mark.parametrize("limits", ["usual", "tiny"])
def test_mixed_batches_give_the_same_bits(capped: BuiltModel, limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {sequence: rows_of(capped.runner, [(sequence, 0, TOKENS)])[0] for sequence in range(4)}
    if limits == "tiny":
        for name, value in (("SCORES", 900), ("KEYS", 300), ("_FREE_SCORES", 10), ("_FREE_KEYS", 10)):
            monkeypatch.setattr(parts, name, value)
    rng = np.random.default_rng(5)
    for pieces in (step for _ in range(3) for step in schedule(rng)):
        for (sequence, begin, end), rows in zip(pieces, rows_of(capped.runner, pieces), strict=True):
            assert np.array_equal(rows, whole[sequence][begin:end])


def schedule(rng: np.random.Generator) -> Iterator[list[Piece]]:
    """Steps that feed four sequences in pieces of random lengths."""
    done = dict.fromkeys(range(4), 0)
    while min(done.values()) < TOKENS:
        pieces = []
        for sequence in rng.permutation(4).tolist():
            begin, end = done[sequence], min(TOKENS, done[sequence] + int(rng.choice([1, 1, 2, 9, 60])))
            if begin < TOKENS and rng.random() < 0.8:
                done[sequence] = max(end, 2)
                # exact numerics wants two tokens at least: one is fed again, as the engine does
                pieces.append((sequence, max(0, min(begin, end - 2)), done[sequence]))
        if pieces:
            yield pieces


def test_what_is_in_masked_places_does_not_matter(made: Made) -> None:
    """Blocks that are used again hold old keys, which may be of any size."""
    runner = made.model(numerics="exact").runner
    expected = rows_of(runner, [(0, 0, 40)])[0]
    rows_of(runner, [(0, 0, TOKENS), (1, 0, TOKENS)])
    assert np.array_equal(rows_of(runner, [(0, 0, 40)])[0], expected)
    runner.close()
