"""On worker-cpu, a GGUF file of each architecture gives the tokens of transformers' `generate` on the same weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedModel

from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime.errors import InfermeshError
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.gguf_graph.build import save_graph
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from tests.architectures.as_gguf import write_gguf
from tests.architectures.configs import VOCAB, save_tiny, tiny_config

ARCHITECTURES = (
    "llama",
    "llama-mha",
    "llama-tied",
    "llama-scaled",
    "llama-linear",
    "mistral",
    "mistral-window",
    "qwen2",
    "qwen2-yarn",
    "qwen3",
    "gemma",
    "gemma3",
    "phi3",
    "phi3-long",
    "smollm3",
    "granite",
    "olmo2",
)
NOT_YET = {
    "gemma2": "worker-cpu has no attention with a soft cap",
    "mixtral": "the account of GGUF files knows no experts",
    "qwen2-moe": "the account of GGUF files knows no experts",
    "qwen3-moe": "the account of GGUF files knows no experts",
}
"""Architectures that worker-cpu refuses, and why; strict, so that the one who teaches it them removes them here."""
TOKENS = 20
LENGTHS = (25, 3, 14)
"""Of the prompts; the first is longer than a window and than a step."""
LONGER = {"phi3-long": 46}
"""Added to the lengths: transformers turns positions in another way as long as all of a text is shorter than this."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, whose spinning also disturbs other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prompts(name: str) -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(3, VOCAB, length + LONGER.get(name, 0)).tolist() for length in LENGTHS]


def generated(model: PreTrainedModel, prompt: Sequence[int]) -> tuple[list[int], list[float]]:
    """transformers' own greedy tokens and their log probabilities."""
    ids = torch.tensor([prompt])
    generate: Any = model.generate
    output = generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None
    )[0]
    with torch.inference_mode():
        rows = model(output[None, :-1]).logits[0, len(prompt) - 1 :].log_softmax(-1)
    added = output[len(prompt) :]
    return added.tolist(), rows.gather(1, added[:, None])[:, 0].tolist()


def answered(gguf_file: Path, asked: Sequence[Sequence[int]]) -> list[tuple[list[int], list[float]]]:
    """The same from worker-cpu's graph in exact numerics, all prompts in one batch."""
    save_graph(gguf_file, gguf_file.with_suffix(".xml"), lambda what, share: None)
    options = OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=1, context_length=512)
    tokenizer = Tokenizer(models.WordLevel({f"t{index}": index for index in range(VOCAB)}, unk_token="t0"))
    runner = OpenVinoRunner(gguf_file.with_suffix(".xml"), options)
    harness = Harness(
        BuiltModel(runner=runner, tokenizer=tokenizer, eos_token_ids=frozenset()),
        max_sequences=3,
        max_batched_tokens=20,
    )
    found: list[tuple[list[int], list[float]]] = [([], []) for _ in asked]
    for output in harness.run(*(request(str(index), ids) for index, ids in enumerate(asked))):
        if isinstance(output, Delta):
            tokens, log_probabilities = found[int(output.request_id)]
            tokens += output.token_ids
            log_probabilities += [each.logprob for each in output.logprobs]
    runner.close()
    return found


def request(request_id: str, ids: Sequence[int]) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id,
        prompt_token_ids=tuple(ids),
        seed=0,
        sampling=SamplingParams(temperature=0.0),
        stop=StopConditions(max_tokens=TOKENS, ignore_eos=True),
        logprobs=0,
    )


def refused(why: str) -> pytest.MarkDecorator:
    return pytest.mark.xfail(strict=True, reason=why, raises=InfermeshError)


@pytest.mark.parametrize(
    "name",
    [*ARCHITECTURES, *(pytest.param(name, marks=refused(why)) for name, why in NOT_YET.items())],
)
def test_tokens_are_those_of_generate(name: str, tmp_path: Path) -> None:
    folder = save_tiny(tiny_config(name), tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    write_gguf(model, tmp_path / "model.gguf", kind=gguf.GGMLQuantizationType.F32)
    asked = prompts(name)
    for prompt, (tokens, log_probabilities) in zip(asked, answered(tmp_path / "model.gguf", asked), strict=True):
        expected, of_expected = generated(model, prompt)
        assert tokens == expected
        assert np.abs(np.subtract(log_probabilities, of_expected)).max() < 1e-4
