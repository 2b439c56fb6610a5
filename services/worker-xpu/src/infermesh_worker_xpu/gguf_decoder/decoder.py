"""The decoder of a GGUF file as a transformers model, with every number of the file's account applied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import DecoderSpec, RopeSpec
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_xpu.attention.layers import IMPLEMENTATION
from infermesh_worker_xpu.gguf_decoder.layer import Layer, scaled
from infermesh_worker_xpu.gguf_decoder.norm import read_norm
from infermesh_worker_xpu.gguf_decoder.readable import account_of
from infermesh_worker_xpu.gguf_decoder.rotary import Rotary
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Decoder(nn.Module):
    """From tokens to the hidden states that the head reads."""

    def __init__(self, spec: DecoderSpec, weights: WeightReader, rotary: Rotary, layers: Sequence[Layer]) -> None:
        super().__init__()
        table, ropes = weights.matrix(Linear(spec.embedding, 0, spec.vocabulary)), _ropes(spec)
        self.embed_tokens = nn.Embedding(spec.vocabulary, spec.hidden, device="meta")
        self.embed_tokens.weight = table
        self.embedding_scale = spec.embedding_scale
        self.rotary = rotary
        self.rotations = [None if layer.rope is None else ropes.index(layer.rope) for layer in spec.layers]
        self.layers = nn.ModuleList(layers)
        self.norm = read_norm(weights, spec.final_norm, spec.norm_epsilon)

    def forward(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """token_ids and positions int64 [1, T] to [1, T, hidden]."""
        hidden = scaled(self.embed_tokens(token_ids), self.embedding_scale)
        rotations = self.rotary(positions)
        for layer, rotation in zip(self.layers, self.rotations, strict=True):
            hidden = layer(hidden, None if rotation is None else rotations[rotation])
        return self.norm(hidden)  # type: ignore[no-any-return] # torch's modules are untyped


class GgufDecoder(PreTrainedModel):
    """A decoder that transformers' tools, such as attention functions by name, can handle."""

    config_class = PreTrainedConfig

    def __init__(self, config: PreTrainedConfig, spec: DecoderSpec, decoder: Decoder, head: nn.Linear) -> None:
        super().__init__(config)
        self.model = decoder
        self.lm_head = head
        self.logit_scale = spec.logit_scale
        self.soft_cap = spec.final_soft_cap

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, logits_to_keep: Tensor, *, use_cache: bool = False
    ) -> CausalLMOutput:
        """Logits [1, R, vocabulary] of the tokens with indices logits_to_keep [R]."""
        if use_cache:
            raise ValueError("the KV cache belongs to the attention function, not to the model")
        hidden = self.model(input_ids, position_ids)[:, logits_to_keep]
        logits = scaled(self.lm_head(hidden), self.logit_scale)
        if self.soft_cap:
            logits = (torch.tanh(logits.float() / self.soft_cap) * self.soft_cap).to(logits.dtype)
        return CausalLMOutput(logits=logits)


class Cut(Protocol):
    """Leaves of a decoder what one of several ranks holds."""

    def layer(self, layer: nn.Module, spec: DecoderSpec) -> None:
        """Cuts a layer in place; called as soon as it is read."""
        ...

    def head(self, model: PreTrainedModel) -> None:
        """Cuts the output head."""
        ...


def load(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    experts: str,
    *,
    cut: Cut | None = None,
    keeps_nibbles: bool = False,
) -> GgufDecoder:
    """Loads a GGUF file onto a device. `experts`: name of the function, known to transformers, that runs experts.

    `keeps_nibbles`: whether linear layers also get the file's 4-bit numbers attached.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know or holds values that are
    not finite, and FailedPrecondition for an architecture or a type of tensor that we do not know.
    """
    file = GgufFile(path)
    spec = account_of(file).spec
    weights, config = WeightReader(file, device, dtype, keeps_nibbles=keeps_nibbles), _config(spec, dtype)
    layers = []
    for index in range(len(spec.layers)):
        layers.append(Layer(spec, index, weights, config, experts))
        if cut is not None:
            cut.layer(layers[-1], spec)
    decoder = Decoder(spec, weights, Rotary(_ropes(spec), file, device, dtype), layers)
    model = GgufDecoder(config, spec, decoder, _head(spec, decoder, weights))
    weights.check_all_read()
    if cut is not None:
        cut.head(model)
    return model


def _ropes(spec: DecoderSpec) -> list[RopeSpec]:
    """Each way in which layers of the decoder rotate, in the order of the first layer that does."""
    return list(dict.fromkeys(layer.rope for layer in spec.layers if layer.rope is not None))


def _config(spec: DecoderSpec, dtype: torch.dtype) -> PreTrainedConfig:
    """What transformers' tools and ours ask of a model's configuration."""
    config: PreTrainedConfig = PreTrainedConfig.from_dict(
        {"num_hidden_layers": len(spec.layers), "hidden_size": spec.hidden, "vocab_size": spec.vocabulary}
    )
    config.dtype = dtype
    config._attn_implementation = IMPLEMENTATION
    return config


def _head(spec: DecoderSpec, decoder: Decoder, weights: WeightReader) -> nn.Linear:
    """The output head, which shares the embedding's memory if the file ties them."""
    if spec.head.tensor != spec.embedding:
        return weights.linear(spec.head)
    head = nn.Linear(spec.hidden, spec.vocabulary, bias=False, device="meta")
    head.weight = decoder.embed_tokens.weight
    weights.attach_nibbles(head, spec.head)
    return head
