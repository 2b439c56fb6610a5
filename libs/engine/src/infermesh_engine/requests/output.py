"""What an engine answers: each step gives a list of outputs over all its sequences."""

from dataclasses import dataclass, field
from enum import StrEnum

from infermesh_runtime.errors import InfermeshError


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural log of a token's probability under the model: at temperature 1, before bias, penalties and grammar."""

    token_id: int
    logprob: float
    token: bytes
    """The bytes it decodes to; they may be part of a character."""
    top: tuple["TokenLogprob", ...] = ()
    """The most probable tokens at this position, most probable first."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What one step adds to one choice."""

    request_id: str
    choice: int
    text: str
    """Whole characters only; "" while a character or a stop string is incomplete."""
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """The log probabilities of a prompt's tokens; comes before the first Delta of a request that asked for them."""

    request_id: str
    logprobs: tuple[TokenLogprob, ...]
    """One for each token; of the first, nothing but token and bytes counts."""
    ranks: tuple[int, ...]
    """How many tokens are at least as probable as each; 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long a choice took to compute, without waiting."""

    prompt_tokens: int
    """Those that were computed; 0 for every choice but the first."""
    prompt_ms: float
    completion_tokens: int
    """Those that this engine generated."""
    completion_ms: float
    """From the end of the prompt to the last token."""
    drafted_tokens: int = 0
    """Guesses of the next tokens that steps checked."""
    accepted_tokens: int = 0
    """Those that were right."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of one choice."""

    request_id: str
    choice: int
    finish_reason: FinishReason
    stop: str = ""
    """The stop string, or the text of the stop token, that ended it."""
    prompt_tokens: int = 0
    """0 for every choice but the first, so that the counts of a request's choices can be summed."""
    completion_tokens: int = 0
    cached_tokens: int = 0
    accepted_prediction_tokens: int = 0
    """Tokens of the request's prediction that were checked as the next ones and were right."""
    rejected_prediction_tokens: int = 0
    """Those that were checked and not used."""
    timings: Timings | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that ends a whole request; none of its choices produces anything more."""

    request_id: str
    error: InfermeshError


Output = Delta | Finished | Failed | PromptLogprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """What an engine is doing now, and its counts since it started."""

    running: int = 0
    waiting: int = 0
    waiting_tokens: int = 0
    """Tokens yet to be prefilled in waiting and running sequences, without cached ones."""
    kv_cache_usage: float = 0.0
    """Share of the blocks held by running sequences, in [0, 1]."""
    prefill_tokens_per_s: float = 0.0
    decode_tokens_per_s: float = 0.0
    kv_cache_tokens: int = 0
    """Size of the KV cache, in tokens."""
    kv_written_tokens: int = 0
    """Part of the KV cache that was ever written, in tokens: on runners that shrink, the rest takes no memory."""
    preemptions: int = 0
    looked_up_tokens: int = 0
    """Prompt tokens of admitted sequences that were looked up in the prefix cache."""
    cached_tokens: int = 0
    """Looked-up tokens that were found there."""
    generated_tokens: int = 0
    drafted_tokens: int = 0
    """Guesses of next tokens that steps checked."""
    accepted_tokens: int = 0
    """Those that were right."""
    request_s: float = 0.0
    """Of models that do not generate text: how much longer the device is busy for one more request; 0: not measured."""
