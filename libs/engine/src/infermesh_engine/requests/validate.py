"""Checks a generation request against the bounds that inference.proto states."""

import math
from collections.abc import Iterator

from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_runtime.errors import ContextLengthExceeded, InvalidArgument

Violation = tuple[str, str]
"""A field's path in inference.proto, and what is wrong with it."""

_MAX_STOP_STRINGS = 16
_MAX_CHOICES = 128
_MAX_TOP_LOGPROBS = 20
_MAX_PRIORITY = 100
EVERY_CHOICE_FINISHED = "has every choice finished, so there is nothing to run"


def validate(request: GenerationRequest, *, vocab_size: int, context_length: int) -> None:
    """Raises InvalidArgument, which names every violation, or ContextLengthExceeded when no room is left for one token.

    Output formats are not checked here; the engine compiles them.
    """
    violations: dict[str, str] = {}
    for field, why in _violations(request, vocab_size):
        violations.setdefault(field, why)
    if violations:
        raise InvalidArgument("; ".join(f"{field} {why}" for field, why in violations.items()), fields=violations)
    if len(request.prompt_token_ids) >= context_length:
        raise context_exceeded(len(request.prompt_token_ids), context_length)


def context_exceeded(prompt_tokens: int, context_length: int, *, exact: bool = True) -> ContextLengthExceeded:
    """The error for a prompt that leaves no room for one token. If not `exact`, `prompt_tokens` is a lower bound."""
    return ContextLengthExceeded(
        f"This model's maximum context length is {context_length} tokens. However, your prompt has"
        f" {'' if exact else 'at least '}{prompt_tokens} tokens, and at least one is needed for the answer."
        " Please shorten the prompt.",
        metadata={"prompt_tokens": str(prompt_tokens), "context_length": str(context_length)},
    )


def _violations(request: GenerationRequest, vocab_size: int) -> Iterator[Violation]:
    if not request.prompt_token_ids:
        yield "prompt", "must hold at least one token"
    yield from _outside_vocabulary("token_ids", request.prompt_token_ids, vocab_size)
    yield from _sampling(request.sampling, vocab_size)
    yield from _stop(request.stop, vocab_size)
    if request.logprobs is not None:
        yield from _outside("logprobs.top", request.logprobs, 0, _MAX_TOP_LOGPROBS)
    if request.prompt_logprobs is not None:
        yield from _outside("prompt_options.logprobs", request.prompt_logprobs, 0, _MAX_TOP_LOGPROBS)
    yield from _outside("n", request.n, 1, _MAX_CHOICES)
    yield from _outside("seed", request.seed, 0, 2**64 - 1)
    yield from _outside("priority", request.priority, -_MAX_PRIORITY, _MAX_PRIORITY)
    yield from _generated(request, vocab_size)
    yield from _outside_vocabulary("prediction.token_ids", request.prediction, vocab_size)
    if request.images and request.images[-1].spans[-1][1] >= len(request.prompt_token_ids):
        yield "prompt", "must go on after its last image"


def _sampling(sampling: SamplingParams, vocab_size: int) -> Iterator[Violation]:
    yield from _outside("sampling.temperature", sampling.temperature, 0, 2)
    yield from _outside("sampling.top_k", sampling.top_k, 0, 2**32 - 1)
    yield from _outside("sampling.top_p", sampling.top_p, 0, 1, above=True)
    yield from _outside("sampling.min_p", sampling.min_p, 0, 1)
    yield from _outside("sampling.repetition_penalty", sampling.repetition_penalty, 0, 2, above=True)
    yield from _outside("sampling.presence_penalty", sampling.presence_penalty, -2, 2)
    yield from _outside("sampling.frequency_penalty", sampling.frequency_penalty, -2, 2)
    for token_id, bias in sampling.logit_bias.items():
        yield from _outside_vocabulary("sampling.logit_bias", (token_id,), vocab_size)
        yield from _outside(f"sampling.logit_bias[{token_id}]", bias, -100, 100)
    yield from _outside_vocabulary("sampling.allowed_token_ids", sampling.allowed_token_ids, vocab_size)
    for i, word in enumerate(sampling.bad_words):
        yield from _outside_vocabulary(f"sampling.bad_words[{i}]", word, vocab_size)


def _stop(stop: StopConditions, vocab_size: int) -> Iterator[Violation]:
    if len(stop.strings) > _MAX_STOP_STRINGS:
        yield "stop.strings", f"must be at most {_MAX_STOP_STRINGS} strings, got {len(stop.strings)}"
    for i, string in enumerate(stop.strings):
        if not string:
            yield f"stop.strings[{i}]", "must not be empty"
    yield from _outside_vocabulary("stop.token_ids", stop.token_ids, vocab_size)
    if stop.max_tokens is not None:
        yield from _outside("stop.max_tokens", stop.max_tokens, 1, 2**32 - 1)
    yield from _outside("stop.min_tokens", stop.min_tokens, 0, 2**32 - 1)


def _generated(request: GenerationRequest, vocab_size: int) -> Iterator[Violation]:
    seen: set[int] = set()
    for i, continuation in enumerate(request.generated):
        if not 0 <= continuation.choice < request.n:
            yield f"generated[{i}].choice", f"must be in [0, n) with n = {request.n}, got {continuation.choice}"
        if continuation.choice in seen:
            yield f"generated[{i}].choice", f"must be unique, but {continuation.choice} occurs twice"
        seen.add(continuation.choice)
        yield from _outside_vocabulary(f"generated[{i}].token_ids", continuation.token_ids, vocab_size)
    if seen and sum(continuation.finished for continuation in request.generated) >= request.n:
        yield "generated", EVERY_CHOICE_FINISHED


def _outside(field: str, value: float, least: float, most: float, *, above: bool = False) -> Iterator[Violation]:
    """A violation unless `value` is a number in [least, most], or in (least, most] if it must be `above` least."""
    inside = math.isfinite(value) and (least < value if above else least <= value) and value <= most
    if not inside:
        yield field, f"must be in {'(' if above else '['}{least}, {most}], got {value}"


def _outside_vocabulary(field: str, token_ids: tuple[int, ...], vocab_size: int) -> Iterator[Violation]:
    wrong = next((token_id for token_id in token_ids if not 0 <= token_id < vocab_size), None)
    if wrong is not None:
        yield field, f"must be token ids of the vocabulary, in [0, {vocab_size}), got {wrong}"
