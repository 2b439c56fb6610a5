"""The engine on paged attention gives the same greedy tokens as transformers' generate, on the real model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel

from infermesh_worker_xpu.build_model import build_model

if TYPE_CHECKING:
    from conftest import MakeHarness

TOKENS = 64


@pytest.fixture(scope="module")
def peer(default_model: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        str(default_model), gguf_file="model.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )


def test_twenty_prompts_in_one_batch(
    default_model: Path, peer: PreTrainedModel, harness_of: MakeHarness, prompts: tuple[str, ...]
) -> None:
    model = build_model({"folder": str(default_model), "device": "cpu", "dtype": "fp32", "kv_cache_bytes": 1 << 30})
    ours = harness_of(model, max_batched_tokens=128)
    found = ours.tokens(*(ours.request(prompt, prompt, tokens=TOKENS) for prompt in prompts))
    model.runner.close()
    for prompt, expected in zip(prompts, generate(peer, [ours.ids(prompt) for prompt in prompts]), strict=True):
        assert found[prompt] == expected, prompt


def generate(peer: Any, prompts: list[list[int]]) -> list[tuple[int, ...]]:
    """TOKENS greedy tokens after each prompt, padded on the left to one batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    output = peer.generate(
        ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return [tuple(row) for row in output[:, width:].tolist()]
