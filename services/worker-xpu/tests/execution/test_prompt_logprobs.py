"""Both workers score the tokens of a prompt as transformers does with the same weights, on a multiple-choice set."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GgufConfig

from infermesh_engine.requests.output import PromptLogprobs
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.build_model import build_model as build_on_openvino
from infermesh_worker_xpu.build_model import build_model as build_on_torch

pytestmark = pytest.mark.timeout(600)

TOLERANCE = 2e-2
QUESTIONS = {
    "Q: What colour is the sky on a clear day?\nA: The sky is": (" blue", " green", " made of cheese"),
    "Q: How many legs does a spider have?\nA: A spider has": (" eight legs", " two legs"),
    "Q: What is the capital of France?\nA: The capital is": (" Paris", " Berlin", " a city in the north of Spain"),
}
OPENVINO = {"numerics": "exact", "kv_cache_bytes": 1 << 28}
TORCH = {"device": "cpu", "dtype": "fp32", "kv_cache_bytes": 1 << 28}


@pytest.fixture(scope="module")
def peer(default_model: Path) -> Callable[[list[int]], list[float]]:
    """The log probabilities of a text's tokens from the second on, by transformers."""
    dequantised = GgufConfig(dequantize=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(default_model), gguf_file="model.gguf", quantization_config=dequantised, dtype=torch.float32
    )

    def score(ids: list[int]) -> list[float]:
        with torch.inference_mode():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        return [float(logprobs[at, token_id]) for at, token_id in enumerate(ids[1:])]

    return score


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (build_on_openvino, OPENVINO),
        (build_on_torch, TORCH | {"sampling": "host"}),
        (build_on_torch, TORCH | {"sampling": "device"}),
    ],
    ids=["openvino", "torch", "torch-device"],
)
def test_log_likelihoods(
    build: Any, options: dict[str, Any], default_model: Path, peer: Callable[[list[int]], list[float]]
) -> None:
    model = build({"folder": str(default_model), **options})
    harness = Harness(model, max_sequences=8, max_batched_tokens=24)  # several chunks for each prompt
    texts = [question + choice for question, choices in QUESTIONS.items() for choice in choices]
    requests = [harness.request(text, text, tokens=1, prompt_logprobs=1) for text in texts]
    scores = {o.request_id: o for o in harness.run(*requests) if isinstance(o, PromptLogprobs)}
    model.runner.close()
    del harness, model
    gc.collect()
    for text, request in zip(texts, requests, strict=True):
        found = [entry.logprob for entry in scores[text].logprobs[1:]]
        expected = peer(list(request.prompt_token_ids))
        assert sum(found) == pytest.approx(sum(expected), abs=TOLERANCE), text
        assert found == pytest.approx(expected, abs=TOLERANCE)
