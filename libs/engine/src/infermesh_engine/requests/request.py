"""Owns what is asked of an engine: requests and their parameters. Knows no wire format; prompts are token ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is chosen.

    Applied in this order: logit_bias, penalties, grammar mask, temperature, top_k, top_p, min_p.
    """

    temperature: float = 1.0
    """In [0, 2]; 0 is greedy."""
    top_k: int = 0
    """0 keeps all tokens."""
    top_p: float = 1.0
    """In (0, 1]."""
    min_p: float = 0.0
    """In [0, 1]."""
    repetition_penalty: float = 1.0
    """In (0, 2]; over tokens of the prompt and the output."""
    presence_penalty: float = 0.0
    """In [-2, 2]; over tokens of the output."""
    frequency_penalty: float = 0.0
    """In [-2, 2]; over tokens of the output."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id to addend, each in [-100, 100]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopConditions:
    """When a choice ends."""

    strings: tuple[str, ...] = ()
    """The choice ends before the first of these, which is not emitted."""
    token_ids: tuple[int, ...] = ()
    """The choice ends after any of these, whose text is not emitted."""
    max_tokens: int | None = None
    """None: what the context leaves."""
    min_tokens: int = 0
    """No stop string, stop token or end of sequence is honoured before this many tokens."""
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """A constraint on the output, enforced by masking logits."""

    kind: Literal["json_schema", "regex", "grammar"]
    spec: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What one choice of an interrupted stream had already delivered."""

    choice: int
    token_ids: tuple[int, ...]
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One client call: a prompt and how to continue it `n` times.

    Positions of sampling draws count generated tokens from 0, so a request with `generated` draws what the undisturbed
    one would have drawn.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    seed: int
    """In [0, 2**64)."""
    sampling: SamplingParams = SamplingParams()
    stop: StopConditions = StopConditions()
    output_format: OutputFormat | None = None
    logprobs: int | None = None
    """None: no log probabilities; k ≥ 0: the sampled token's and the k most probable ones'."""
    n: int = 1
    priority: int = 0
    """Larger is scheduled first."""
    generated: tuple[Continuation, ...] = ()
