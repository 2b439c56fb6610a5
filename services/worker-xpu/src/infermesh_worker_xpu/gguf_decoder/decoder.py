"""The decoder of a GGUF file as a transformers model, with every number of the file's account applied."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from infermesh_runtime.gguf_account.account import make_account
from infermesh_runtime.gguf_account.contents import Linear
from infermesh_runtime.gguf_account.spec import DecoderSpec, RopeSpec
from infermesh_worker.models.gguf_file import GgufFile
from infermesh_worker_xpu.attention.layers import IMPLEMENTATION
from infermesh_worker_xpu.gguf_decoder.attention import Attention
from infermesh_worker_xpu.gguf_decoder.mlp import Mlp
from infermesh_worker_xpu.gguf_decoder.norm import read_norm
from infermesh_worker_xpu.gguf_decoder.rotary import Rotary, Rotation
from infermesh_worker_xpu.gguf_decoder.weight_reader import WeightReader


class Layer(nn.Module):
    """A decoder layer: attention, then an MLP, each with a norm before or after it and added to the residual."""

    def __init__(self, spec: DecoderSpec, index: int, weights: WeightReader, config: PreTrainedConfig) -> None:
        super().__init__()
        layer, epsilon = spec.layers[index], spec.norm_epsilon
        self.residual_scale = spec.residual_scale
        self.attention_norm = read_norm(weights, layer.attention_norm, epsilon)
        self.self_attn = Attention(spec, index, weights, config)
        self.attention_post_norm = read_norm(weights, layer.attention_post_norm, epsilon)
        self.mlp_norm = read_norm(weights, layer.mlp_norm, epsilon)
        self.mlp = Mlp(layer.gate, layer.up, layer.down, spec.activation, weights)
        self.mlp_post_norm = read_norm(weights, layer.mlp_post_norm, epsilon)

    def forward(self, hidden: Tensor, by: Rotation | None) -> Tensor:
        """hidden [1, T, hidden] to the same shape."""
        mixed = self.attention_post_norm(self.self_attn(self.attention_norm(hidden), by))
        hidden = hidden + _scaled(mixed, self.residual_scale)
        return hidden + _scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(hidden))), self.residual_scale)


class Decoder(nn.Module):
    """From tokens to the hidden states that the head reads."""

    def __init__(
        self, spec: DecoderSpec, ropes: Sequence[RopeSpec], weights: WeightReader, rotary: Rotary, config: PreTrainedConfig
    ) -> None:
        super().__init__()
        table = weights.matrix(Linear(spec.embedding, 0, spec.vocabulary))
        self.embed_tokens = nn.Embedding(*table.shape, _weight=table)
        self.embedding_scale = spec.embedding_scale
        self.rotary = rotary
        self.rotations = [None if layer.rope is None else ropes.index(layer.rope) for layer in spec.layers]
        self.layers = nn.ModuleList([Layer(spec, index, weights, config) for index in range(len(spec.layers))])
        self.norm = read_norm(weights, spec.final_norm, spec.norm_epsilon)

    def forward(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        """token_ids and positions int64 [1, T] to [1, T, hidden]."""
        hidden = _scaled(self.embed_tokens(token_ids), self.embedding_scale)
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
        logits = _scaled(self.lm_head(hidden), self.logit_scale)
        if self.soft_cap:
            logits = (torch.tanh(logits.float() / self.soft_cap) * self.soft_cap).to(logits.dtype)
        return CausalLMOutput(logits=logits)


def load(path: Path, device: torch.device, dtype: torch.dtype) -> GgufDecoder:
    """Loads a GGUF file onto a device.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know or holds values that are
    not finite, and FailedPrecondition for an architecture or a type of tensor that we do not know.
    """
    file = GgufFile(path)
    spec = make_account(file.contents).spec
    weights = WeightReader(file, device, dtype)
    config = PreTrainedConfig(
        num_hidden_layers=len(spec.layers),
        hidden_size=spec.hidden,
        vocab_size=spec.vocabulary,
        tie_word_embeddings=spec.head.tensor == spec.embedding,
        dtype=dtype,
    )
    config._attn_implementation = IMPLEMENTATION
    ropes = list(dict.fromkeys(layer.rope for layer in spec.layers if layer.rope is not None))
    decoder = Decoder(spec, ropes, weights, Rotary(ropes, file, device, dtype), config)
    model = GgufDecoder(config, spec, decoder, _head(spec, decoder, weights))
    weights.check_all_read()
    return model


def _head(spec: DecoderSpec, decoder: Decoder, weights: WeightReader) -> nn.Linear:
    """The output head, which shares the embedding's memory if the file ties them."""
    if spec.head.tensor != spec.embedding:
        return weights.linear(spec.head)
    head = nn.Linear(spec.hidden, spec.vocabulary, bias=False, device="meta")
    head.weight = decoder.embed_tokens.weight
    return head


def _scaled(values: Tensor, scale: float) -> Tensor:
    return values if scale == 1.0 else values * scale
