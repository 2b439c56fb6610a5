"""In exact numerics each architecture gives the tokens of transformers' own `generate`, beside other sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Feed, Ints, MakeRunner, TinyFolder

ARCHITECTURES = (
    "llama",
    "llama-scaled",
    "llama-linear",
    "llama-dynamic",
    "mistral-window",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi3",
    "phi3-long",
    "smollm3",
    "granite",
    "olmo2",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
)
TOKENS = 20
PROMPTS = (25, 3, 14)
"""Lengths of the prompts. With TOKENS they stay below the lengths at which rotary embeddings would change."""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Gives later tests the number of threads back that they began with."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_of_a_batch_are_those_of_generate(
    name: str, tiny_folder: TinyFolder, tiny_runner: MakeRunner, feed: type[Feed]
) -> None:
    rng = np.random.default_rng(5)
    prompts = [rng.integers(3, 160, length) for length in PROMPTS]
    runner = tiny_runner(name, numerics="exact", threads=1)
    found = decode(feed(runner, [np.append(prompt, np.zeros(TOKENS, np.int64)) for prompt in prompts]))
    runner.close()
    for prompt, tokens in zip(prompts, found, strict=True):
        assert tokens == generate(tiny_folder(name), prompt)


def decode(sequences: Feed) -> list[list[int]]:
    """Greedy tokens of all sequences, run together: their prompts in two chunks, then token after token."""
    sequences.run({i: length - 2 for i, length in enumerate(PROMPTS)})
    runs = dict.fromkeys(range(len(PROMPTS)), 2)
    for _ in range(TOKENS):
        for i, logits in sequences.run(runs).items():
            if sequences.done[i] < len(sequences.sequences[i]):
                sequences.sequences[i][sequences.done[i]] = logits.argmax()
        runs = dict.fromkeys(runs, 1)
    return [ids[length:].tolist() for ids, length in zip(sequences.sequences, PROMPTS, strict=True)]


def generate(folder: Path, prompt: Ints) -> list[int]:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    ids = torch.from_numpy(prompt)[None]
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None
    )
    return output[0, len(prompt) :].tolist()  # type: ignore[no-any-return] # transformers' own
