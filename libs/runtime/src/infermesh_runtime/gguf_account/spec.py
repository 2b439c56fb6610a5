"""A decoder as a GGUF file describes it: sizes, rotary positions, attention and the tensors of every layer."""

from dataclasses import dataclass
from typing import Literal

from infermesh_runtime.gguf_account.contents import Linear

Pairing = Literal["interleaved", "halves"]
Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """How positions rotate the first `dimensions` numbers of each query and key head."""

    dimensions: int
    base: float
    pairing: Pairing
    """Which two numbers form a pair: neighbours, or one from each half of `dimensions`."""
    scale: float = 1.0
    """Multiplies positions: 1 / the scaling factor."""
    factors: str | None = None
    """Name of a tensor [dimensions / 2] that divides the frequencies."""
    attention_factor: float = 1.0
    """Multiplies cosines and sines."""
    yarn: "YarnSpec | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnSpec:
    """YaRN (https://arxiv.org/abs/2309.00071): high frequencies keep their positions, low ones get scaled positions."""

    original_context: int
    """Tokens that the model was trained with before its context was extended."""
    extrapolation: float = 1.0
    """Share of the correction that is applied, 0 to 1."""
    beta_fast: float = 32.0
    beta_slow: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedExpertSpec:
    """The expert that every token uses, beside those that it chooses."""

    gate: Linear
    up: Linear
    down: Linear
    share: str | None
    """Name of a tensor [hidden]: the sigmoid of its product with the layer's input multiplies the output; None: 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """A layer's mixture of experts: each token goes through the `used` experts with the highest probability.

    An expert's weight is its probability in the softmax over all experts. What the experts add is the sum of their
    outputs by weight, and the shared expert's output.
    """

    count: int
    used: int
    """How many experts a token goes through."""
    mlp: int
    """Width of one expert."""
    router: Linear
    """[count, hidden]; its product with the layer's input is what the softmax takes."""
    normalised: bool
    """Whether the weights of the chosen experts are divided by their sum."""
    scale: float
    """Multiplies the weights, after that."""
    shared: SharedExpertSpec | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec:
    """One decoder layer. Names are of tensors; None: the layer has no such norm."""

    rope: RopeSpec | None
    """None: the layer's attention does not know positions."""
    window: int
    """How many tokens, itself included, a token attends to; 0: all."""
    query: Linear
    key: Linear
    value: Linear
    output: Linear
    gate: Linear
    """With experts, the tensors of gate, up and down have one matrix for each expert, [count, outputs, inputs]; begin
    and rows are within each matrix."""
    up: Linear
    down: Linear
    experts: ExpertsSpec | None = None
    """None: the layer has one MLP."""
    attention_norm: str | None
    query_norm: str | None
    key_norm: str | None
    attention_post_norm: str | None
    mlp_norm: str | None
    mlp_post_norm: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """All that must be known to compute a decoder's logits from its tensors."""

    architecture: str
    context_length: int
    vocabulary: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    norm_epsilon: float
    activation: Activation
    attention_scale: float
    """Multiplies query · key before the softmax."""
    attention_soft_cap: float
    """c: scores become c · tanh(score / c); 0: they stay."""
    final_soft_cap: float
    """The same for the logits."""
    embedding_scale: float
    residual_scale: float
    """Multiplies what attention and MLP add to the residual."""
    logit_scale: float
    """Multiplies the logits."""
    norms_whole_heads: bool
    """Whether query and key norms span all heads at once; otherwise they apply to each head."""
    layers: tuple[LayerSpec, ...]
    embedding: str
    final_norm: str
    head: Linear
    """The same tensor as `embedding` when they are tied."""
