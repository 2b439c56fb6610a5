"""Lets transformers and worker-cpu answer the same prompts of a tiny model greedily."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedModel

from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from tests.architectures.configs import VOCAB

Answer = tuple[list[int], list[float]]
"""Tokens and their log probabilities."""
TOKENS = 20
LENGTHS = (25, 3, 14)
"""Of the prompts; the first is longer than a window and than a step."""
LONGER = {"phi3-long": 46}
"""Added to the lengths: transformers turns positions in another way as long as all of a text is shorter than this."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, whose spinning also disturbs other processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def prompts(name: str = "") -> list[list[int]]:
    """The prompts for the model of this name; without a name, those that are short enough for all."""
    rng = np.random.default_rng(5)
    return [rng.integers(3, VOCAB, length + LONGER.get(name, 0)).tolist() for length in LENGTHS]


def load(folder: Path) -> PreTrainedModel:
    """The model in transformers, in float32 and with its plain attention."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    )
    return model


def generated(model: PreTrainedModel, prompt: Sequence[int]) -> Answer:
    """What transformers' own `generate` gives."""
    ids = torch.tensor([prompt])
    generate: Any = model.generate
    output = generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None
    )[0]
    with torch.inference_mode():
        rows = model(output[None, :-1]).logits[0, len(prompt) - 1 :].log_softmax(-1)
    added = output[len(prompt) :]
    return added.tolist(), rows.gather(1, added[:, None])[:, 0].tolist()


def answered(xml: Path, asked: Sequence[Sequence[int]]) -> list[Answer]:
    """What worker-cpu's runner gives in exact numerics, all prompts in one batch."""
    options = OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=1, context_length=512)
    tokenizer = Tokenizer(models.WordLevel({f"t{index}": index for index in range(VOCAB)}, unk_token="t0"))
    built = BuiltModel(runner=OpenVinoRunner(xml, options), tokenizer=tokenizer, eos_token_ids=frozenset())
    harness = Harness(built, max_sequences=len(asked), max_batched_tokens=20)
    found: list[Answer] = [([], []) for _ in asked]
    for output in harness.run(*(_request(str(index), ids) for index, ids in enumerate(asked))):
        if isinstance(output, Delta):
            tokens, log_probabilities = found[int(output.request_id)]
            tokens += output.token_ids
            log_probabilities += [each.logprob for each in output.logprobs]
    built.runner.close()
    return found


def _request(request_id: str, ids: Sequence[int]) -> GenerationRequest:
    return GenerationRequest(
        request_id=request_id,
        prompt_token_ids=tuple(ids),
        seed=0,
        sampling=SamplingParams(temperature=0.0),
        stop=StopConditions(max_tokens=TOKENS, ignore_eos=True),
        logprobs=0,
    )
