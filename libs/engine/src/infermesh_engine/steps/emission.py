"""Adds a sampled token to its sequence and makes the outputs that the client gets for it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infermesh_engine.requests.output import Delta, Finished, FinishReason, TokenLogprob
from infermesh_engine.scheduling.sequence import Sequence

if TYPE_CHECKING:
    from infermesh_engine.sampling.sampler import SampledToken
    from infermesh_engine.text.token_bytes import TokenBytes


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a sequence ends, and the stop string or token text that ended it."""

    reason: FinishReason
    stop: str = ""


def emit(sequence: Sequence, sampled: "SampledToken", token_bytes: "TokenBytes") -> tuple[Delta, Finished | None]:
    """Adds the sampled token to the sequence. Returns the token's Delta, and Finished if the sequence ended."""
    text, ending = _add(sequence, sampled.token_id)
    logprobs = () if sampled.logprob is None else (_logprob(sampled, sampled.logprob, token_bytes),)
    delta = Delta(sequence.request_id, sequence.choice, text, (sampled.token_id,), logprobs)
    return delta, None if ending is None else _finished(sequence, ending)


def replay(sequence: Sequence, token_ids: Iterable[int]) -> Finished | None:
    """Adds tokens that the client already has, without a Delta. Returns Finished if they end the sequence."""
    for token_id in token_ids:
        _, ending = _add(sequence, token_id)
        if ending is not None:
            return _finished(sequence, ending)
    return None


def _add(sequence: Sequence, token_id: int) -> tuple[str, Ending | None]:
    """Adds a token. Returns the text it releases, and how the sequence ends if it does."""
    sequence.append(token_id)
    sequence.sampler.observe(token_id)
    out = sequence.text.push(token_id)
    if out.finish_reason is not None:
        return out.text, Ending(out.finish_reason, out.stop)
    by_grammar = sequence.sampler.finished_by_grammar
    if not by_grammar and sequence.num_tokens < sequence.limit:
        return out.text, None
    rest = sequence.text.flush()
    stopped = by_grammar or rest.stop is not None
    return out.text + rest.text, Ending(FinishReason.STOP if stopped else FinishReason.LENGTH, rest.stop or "")


def _finished(sequence: Sequence, ending: Ending) -> Finished:
    counts_prompt = sequence.choice == 0
    return Finished(
        sequence.request_id,
        sequence.choice,
        ending.reason,
        stop=ending.stop,
        prompt_tokens=sequence.prompt_tokens if counts_prompt else 0,
        completion_tokens=sequence.completion_tokens,
        cached_tokens=sequence.cached_tokens if counts_prompt else 0,
    )


def _logprob(sampled: "SampledToken", logprob: float, token_bytes: "TokenBytes") -> TokenLogprob:
    top = tuple(TokenLogprob(token_id, value, token_bytes[token_id]) for token_id, value in sampled.top)
    return TokenLogprob(sampled.token_id, logprob, token_bytes[sampled.token_id], top)
