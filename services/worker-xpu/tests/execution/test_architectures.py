"""With paged attention, each architecture gives the logits of transformers' own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import Feed, Floats, MakeRunner, Reference, TinyFolder

ARCHITECTURES = (
    "llama",
    "llama-mha",
    "qwen2",
    "qwen3",
    "mistral-window",
    "phi3",
    "phi",
    "gemma2",
    "gemma3",
    "smollm3",
    "olmo2",
    "granite",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
    "llama-scaled",
    "llama-linear",
    "qwen2-yarn",
)

LENGTHS = (70, 33, 5, 41, 64)


def mixed_steps(feed: Feed) -> dict[int, list[tuple[int, Floats]]]:
    """Runs LENGTHS in mixed chunks and single tokens. Returns each sequence's logits and the lengths they belong to."""
    found: dict[int, list[tuple[int, Floats]]] = {i: [] for i in range(len(feed.sequences))}
    steps = [
        {0: 40, 1: 7},
        {2: 1, 1: 1, 0: 10},
        {1: 1, 2: 1, 0: 1, 3: 41, 4: 32},
        {0: 1, 1: 1, 2: 1, 4: 1},
        *[{0: 1, 1: 1, 4: 1}] * 3,
        {1: 20, 0: 15, 4: 28},
    ]
    for runs in steps:
        for i, logits in feed.run(runs).items():
            found[i].append((feed.done[i], logits))
    return found


CASES = [("fast", name) for name in ARCHITECTURES] + [
    ("exact", name) for name in ("llama", "qwen3", "mistral-window", "gemma2")
]


@pytest.mark.parametrize(("numerics", "name"), CASES)
def test_mixed_batches_equal_transformers(
    numerics: str, name: str, tiny_runner: MakeRunner, reference: Reference, feed: type[Feed]
) -> None:
    runner = tiny_runner(name, numerics=numerics)
    rng = np.random.default_rng(3)
    sequences = [rng.integers(3, 160, length) for length in LENGTHS]
    for i, rows in mixed_steps(feed(runner, sequences)).items():
        expected = reference(name, sequences[i])
        for length, logits in rows:
            np.testing.assert_allclose(logits, expected[length - 1], atol=2e-4, rtol=1e-3)
    runner.close()


def test_the_window_matters_in_these_tests(tiny_folder: TinyFolder, reference: Reference) -> None:
    ids = np.random.default_rng(3).integers(3, 160, 70)
    config = transformers.AutoConfig.from_pretrained(tiny_folder("mistral-window"), sliding_window=None)
    unbounded = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder("mistral-window"), config=config)
    with torch.inference_mode():
        whole = unbounded(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()
    assert np.abs(whole - reference("mistral-window", ids))[-1].max() > 0.05


@pytest.mark.parametrize("options", [{"dtype": "bf16"}, {"kv_dtype": "bf16"}, {"quantisation": "int8"}], ids=str)
def test_less_precision_stays_near(
    options: dict[str, str], tiny_runner: MakeRunner, reference: Reference, feed: type[Feed]
) -> None:
    if "quantisation" in options:
        pytest.importorskip("torchao")
    runner = tiny_runner("llama", **options)
    ids = np.random.default_rng(3).integers(3, 160, 70)
    one = feed(runner, [ids])
    one.run({0: 60})
    found = [one.run({0: 1})[0] for _ in range(10)][-1]
    assert np.abs(found - reference("llama", ids)[-1]).max() < 0.15
    runner.close()


REFUSED = {
    "mamba": ("mamba", {"state_size": 4, "num_hidden_layers": 1}, "keeps a state"),
    "sinks": ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8}, "s_aux"),
    "chunks": (
        "llama4_text",
        {
            "attention_chunk_size": 16,
            "num_local_experts": 1,
            "interleave_moe_layer_step": 1,
            "intermediate_size_mlp": 64,
        },
        "chunked_attention",
    ),
    "alibi": ("bloom", {"n_layer": 1, "n_head": 4}, "calls the attention function"),
    "encoder": ("bert", {}, "neither causal nor a sliding window"),
    "another window": ("olmoe", {"sliding_window": 12, "num_experts": 4}, "window of 12 tokens, and .* has no sliding"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_paged_attention_cannot_do_is_refused(name: str, tmp_path: Path) -> None:
    model_type, changes, reason = REFUSED[name]
    small = {
        "vocab_size": 160,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    config = transformers.AutoConfig.for_model(model_type, **{**small, **changes})
    made = transformers.AutoModelForCausalLM.from_config(config)
    made.save_pretrained(tmp_path)
    with pytest.raises(FailedPrecondition, match=reason):
        load_runner(tmp_path, TorchOptions(device="cpu", dtype="fp32"))
