"""With the real IPEX, an optimised model gives the same logits and calls the same attention function.

Runs in a venv of its own (`make test-ipex`): the last IPEX needs torch 2.8.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, GgufConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from infermesh_worker_xpu.loading import ipex, packing

CPU = torch.device("cpu")
ATTENTION = "ipex_lane_counting"
LAYERS = 3
SMALL = {
    "vocab_size": 160,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
}
IDS = torch.arange(1, 60)[None]

pytestmark = pytest.mark.skipif(ipex.why_unusable(CPU) != "", reason=ipex.why_unusable(CPU))


class Calls(list[str]):
    """Names of the modules that called the registered attention function."""

    def attend(self, module: nn.Module, query: Tensor, *others: Any, **options: Any) -> tuple[Tensor, None]:
        self.append(type(module).__name__)
        # no mask function has this name, so the model makes no masks
        return sdpa_attention_forward(module, query, *others, **options)


@pytest.fixture
def calls() -> Iterator[Calls]:
    noted = Calls()
    AttentionInterface.register(ATTENTION, noted.attend)
    yield noted
    del AttentionInterface._global_mapping[ATTENTION]


def tiny(model_type: str, dtype: torch.dtype) -> PreTrainedModel:
    torch.manual_seed(7)
    config = AutoConfig.for_model(model_type, **SMALL)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call] # transformers'
        config, attn_implementation=ATTENTION
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
            else:
                parameter.uniform_(0.5, 1.5)
    nn.Module.to(model, dtype)
    model.train(mode=False)
    return model


def optimised(model: PreTrainedModel, *, packed: bool = False) -> PreTrainedModel:
    other = copy.deepcopy(model)
    if packed:
        packing.pack(other)
    result = ipex.optimise(other, device=CPU, dtype=model.dtype)
    assert result.model is other
    assert result.runtime == "ipex 2.8"
    return other


@torch.inference_mode()
def logits_of(model: PreTrainedModel, ids: Tensor = IDS) -> Tensor:
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def count(model: nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


@pytest.mark.parametrize("packed", [False, True], ids=["torch linears", "packed linears"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("model_type", "norms"),
    [("llama", 2 * LAYERS + 1), ("qwen3", 4 * LAYERS + 1), ("mistral", 2 * LAYERS + 1), ("gemma3_text", 0)],
)
def test_a_tiny_model_keeps_its_logits_and_its_attention(
    calls: Calls, model_type: str, norms: int, dtype: torch.dtype, tolerance: float, *, packed: bool
) -> None:
    plain = tiny(model_type, dtype)
    expected = logits_of(plain)
    before = list(calls)
    calls.clear()
    model = optimised(plain, packed=packed)
    actual = logits_of(model)
    assert calls == before
    assert len(calls) == LAYERS
    assert count(model, ipex.FusedNorm) == norms
    assert count(model, nn.Linear) <= 1  # what IPEX leaves: a head that is tied to the embedding
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.fixture(scope="module")
def smollm2(default_model: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        default_model, gguf_file="model.gguf", quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.train(mode=False)
    return model


def test_the_real_model_in_fp32_is_the_same(smollm2: PreTrainedModel) -> None:
    ids = torch.arange(300, 364)[None]
    expected = logits_of(smollm2, ids)
    actual = logits_of(optimised(smollm2), ids)
    assert (actual - expected).abs().max() <= 1e-3
    assert torch.equal(actual.argmax(-1), expected.argmax(-1))


def test_the_real_model_in_bf16_is_no_further_from_fp32_than_torch_is(smollm2: PreTrainedModel) -> None:
    ids = torch.arange(300, 364)[None]
    exact = logits_of(smollm2, ids)
    plain = copy.deepcopy(smollm2)
    nn.Module.to(plain, torch.bfloat16)
    torch_error = (logits_of(plain, ids) - exact).pow(2).mean().sqrt()
    ipex_error = (logits_of(optimised(plain), ids) - exact).pow(2).mean().sqrt()
    assert ipex_error <= 1.25 * torch_error
