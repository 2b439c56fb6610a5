"""Two ranks give the bits of one in `exact`, and logits close to it in `fast`, for each way to split a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.sharding import cut
from tests.architectures.as_gguf import write_gguf
from tests.architectures.configs import SMALL, save_tiny, tiny_config

if TYPE_CHECKING:
    from conftest import Feed, Floats, MakePair, MakeRunner, TinyFolder
    from infermesh_engine.runners.runner import ModelRunner

EXACT = (
    "llama",
    "llama-tied",
    "mistral-window",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "phi",
    "olmo2",
    "mixtral",
)
FAST = ("llama", "qwen2", "gemma2", "phi3", "mixtral", "qwen3-moe", "qwen2-moe")


def mixed_steps(runner: ModelRunner, feed: type[Feed]) -> Floats:
    """Logits of prompts and decodes, alone and together."""
    ids = np.random.default_rng(3).integers(3, 160, 70)
    sequences = feed(runner, [ids, ids[5:40]])
    steps = [{0: 20, 1: 3}, {0: 1, 1: 10}, {0: 1}, {0: 1, 1: 1}, {0: 40}]
    return np.concatenate([list(sequences.run(runs).values()) for runs in steps])


@pytest.mark.parametrize("name", EXACT)
def test_exact_gives_the_bits_of_one_rank(name: str, pair: MakePair, alone: MakeRunner, feed: type[Feed]) -> None:
    one, two = alone(name, numerics="exact"), pair(name, numerics="exact")
    assert np.array_equal(mixed_steps(two, feed), mixed_steps(one, feed))
    assert two.first.info.weights_bytes < one.info.weights_bytes
    one.close()
    two.close()


@pytest.mark.parametrize("name", FAST)
def test_fast_stays_near(name: str, pair: MakePair, alone: MakeRunner, feed: type[Feed]) -> None:
    one, two = alone(name), pair(name)
    np.testing.assert_allclose(mixed_steps(two, feed), mixed_steps(one, feed), atol=1e-4, rtol=1e-3)
    one.close()
    two.close()


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_more_ranks_than_kv_heads_share_them(
    numerics: str, pair: MakePair, alone: MakeRunner, feed: type[Feed], tmp_path: Path
) -> None:
    config = tiny_config("llama")
    config.num_key_value_heads = 1
    folder = save_tiny(config, tmp_path)
    one, two = alone(folder, numerics=numerics), pair(folder, numerics=numerics)
    np.testing.assert_allclose(mixed_steps(two, feed), mixed_steps(one, feed), atol=1e-4, rtol=1e-3)
    if numerics == "exact":
        assert np.array_equal(mixed_steps(two, feed), mixed_steps(one, feed))
    one.close()
    two.close()


def test_each_rank_has_its_heads_in_the_cache_and_reads_its_weights_only(
    pair: MakePair, alone: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[str] = []
    taken = cut._taken

    def watched(values: Any, *place: Any) -> Any:
        if not isinstance(values, DTensor):
            whole.append(str(values.shape))
        return taken(values, *place)

    monkeypatch.setattr(cut, "_taken", watched)
    one, two = alone("llama"), pair("llama")
    assert not whole
    # the budget is that of both ranks, and a block takes half of the memory on each
    assert two.first.info.num_blocks == one.info.num_blocks
    assert 2 * two.first.info.kv_cache_bytes == one.info.kv_cache_bytes
    one.close()
    two.close()


@pytest.fixture(params=["llama", "gemma2", "olmo2", "qwen3-moe"])
def gguf_folder(request: pytest.FixtureRequest, tiny_folder: TinyFolder, tmp_path: Path) -> Path:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(request.param), dtype=torch.float32)
    write_gguf(model, tmp_path / "model.gguf", kind=GGMLQuantizationType.F32)
    return tmp_path


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_gguf_files_are_split_too(
    numerics: str, gguf_folder: Path, pair: MakePair, alone: MakeRunner, feed: type[Feed]
) -> None:
    one, two = alone(gguf_folder, numerics=numerics), pair(gguf_folder, numerics=numerics)
    expected, found = (mixed_steps(runner, feed) for runner in (one, two))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)
    assert numerics == "fast" or np.array_equal(found, expected)
    assert two.first.info.weights_bytes < one.info.weights_bytes
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 144},
            "its 9 attention heads and 3 KV heads do not divide by 2 devices; it can be split over 3, 9",
        ),
        ({"intermediate_size": 97}, "the size 97 of its layers.0.mlp.gate_proj is not a multiple of 2 devices"),
    ],
)
def test_what_cannot_be_split_is_refused_with_its_numbers(
    changes: dict[str, int], problem: str, pair: MakePair, tmp_path: Path
) -> None:
    config = AutoConfig.for_model("llama", **{**SMALL, **changes})
    with pytest.raises(FailedPrecondition, match=problem):
        pair(save_tiny(config, tmp_path))
