"""The reference in numpy agrees with an independent computation on mixtures of experts, and on Granite's scales."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infermesh_client.verification.comparison import Answer, NoReferenceError
from infermesh_client.verification.gguf_weights import GgufWeights
from infermesh_client.verification.numpy_decoder import agreements
from infermesh_client.verification.numpy_experts import read_experts, run_experts
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import HIDDEN, Recipe, Weights, write
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.reference_experts import mixture
from tests.gguf_files.running import IDS

PROMPT = IDS[:24]
NAMES = ["granite", *(name for name, recipe in RECIPES.items() if recipe.experts)]


def continued(recipe: Recipe, weights: Weights, sign: int) -> list[int]:
    """Four tokens, each the most probable one after those before it, or the least probable one for a sign of -1."""
    ids = list(PROMPT)
    for _ in range(4):
        ids.append(int((sign * log_probabilities(recipe, weights, ids)[-1]).argmax()))
    return ids[len(PROMPT) :]


def agreed(path: Path, output: list[int]) -> list[bool]:
    return agreements(GgufWeights(path), [Answer(PROMPT, output)], lambda _fraction: None)[0]


@pytest.mark.parametrize("name", NAMES)
def test_its_tokens_are_those_of_an_independent_computation(name: str, tmp_path: Path) -> None:
    weights = write(tmp_path / "m.gguf", RECIPES[name])
    assert agreed(tmp_path / "m.gguf", continued(RECIPES[name], weights, 1)) == [True] * 4
    assert agreed(tmp_path / "m.gguf", continued(RECIPES[name], weights, -1)) == [False] * 4


@pytest.mark.parametrize("name", NAMES[1:])
def test_what_experts_add_is_what_an_independent_computation_adds(name: str, tmp_path: Path) -> None:
    recipe, states = RECIPES[name], np.random.default_rng(1).standard_normal((9, HIDDEN)).astype(np.float32)
    weights = write(tmp_path / "m.gguf", recipe)
    file = GgufWeights(tmp_path / "m.gguf")
    experts = read_experts(file.architecture, file.hyperparameters)
    assert experts is not None
    expected = mixture(recipe, weights, 1, states.astype(np.float64))
    assert np.abs(run_experts(file, "blk.1.", experts, states) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("key", "value"), [("expert_gating_func", 2), ("expert_group_count", 2)])
def test_what_it_does_not_know_has_no_reference(key: str, value: int, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", RECIPES["olmoe"], keys={key: value})
    with pytest.raises(NoReferenceError, match=key):
        agreed(tmp_path / "m.gguf", [1])


def test_tensors_of_experts_are_unknown_where_no_key_speaks_of_experts(tmp_path: Path) -> None:
    recipe = replace(RECIPES["llama-experts"], keys={"expert_count": 0})
    write(tmp_path / "m.gguf", recipe)
    with pytest.raises(NoReferenceError, match="_exps"):
        agreed(tmp_path / "m.gguf", [1])
