"""Turns a request into sequences, one for each choice, or refuses one that can never run here."""

from tokenizers import Tokenizer

from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.requests.validate import EVERY_CHOICE_FINISHED
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.sampling.grammars.grammar import GrammarFactory
from infermesh_engine.sampling.sampler_state import SamplerState
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.text.sequence_text import SequenceText
from infermesh_runtime.errors import ContextLengthExceeded, FailedPrecondition, InvalidArgument


class SequenceFactory:
    """Makes the sequences of requests for one model and one KV cache."""

    def __init__(
        self,
        info: RunnerInfo,
        cache: KvCache,
        tokenizer: Tokenizer,
        eos_token_ids: frozenset[int],
        grammars: GrammarFactory,
    ) -> None:
        self._info = info
        self._cache = cache
        self._tokenizer = tokenizer
        self._eos_token_ids = eos_token_ids
        self._grammars = grammars
        self._arrivals = 0

    def make(self, request: GenerationRequest) -> list[Sequence]:
        """A new sequence for each choice that is not finished, at its prompt's end.

        Raises ContextLengthExceeded when the prompt leaves no room in the context, FailedPrecondition when the prompt,
        or the prompt and what was already generated, can never fit in the KV cache, and InvalidArgument for an empty
        prompt, for a grammar that does not compile and when every choice is finished.
        """
        self._check(request)
        self._arrivals += 1
        finished = {continuation.choice for continuation in request.generated if continuation.finished}
        return [self._sequence(request, choice) for choice in range(request.n) if choice not in finished]

    def _check(self, request: GenerationRequest) -> None:
        prompt, context, cache = len(request.prompt_token_ids), self._info.context_length, self._cache.num_tokens
        if not prompt:
            raise InvalidArgument("The prompt has no tokens.", fields={"token_ids": "is empty"})
        if prompt >= context:
            raise ContextLengthExceeded(
                f"The prompt has {prompt} tokens and leaves no room in the context of {context}. Shorten the prompt.",
                metadata={"prompt_tokens": str(prompt), "context_length": str(context)},
            )
        if prompt >= cache:
            raise FailedPrecondition(  # not ResourceExhausted: clients take that as a rate limit and try again
                f"The prompt has {prompt} tokens and can never fit in this worker's KV cache of {cache} tokens."
                " Shorten the prompt, or give the worker a larger KV cache.",
                reason="KV_CACHE_TOO_SMALL",
                metadata={"prompt_tokens": str(prompt), "kv_cache_tokens": str(cache)},
            )
        longest = prompt + max((len(part.token_ids) for part in request.generated if not part.finished), default=0)
        if longest > min(context, cache):  # it would end at a token that the client received long ago
            raise FailedPrecondition(
                f"The prompt and the tokens generated so far come to {longest} tokens; this worker holds at most"
                f" {min(context, cache)}.",
                reason="CONTINUATION_TOO_LONG",
                metadata={"tokens": str(longest), "room_tokens": str(min(context, cache))},
            )
        if sum(continuation.finished for continuation in request.generated) >= request.n:
            problem = EVERY_CHOICE_FINISHED
            raise InvalidArgument(f"generated {problem}", fields={"generated": problem})

    def _sequence(self, request: GenerationRequest, choice: int) -> Sequence:
        stop = request.stop
        prompt = len(request.prompt_token_ids)
        # A KV cache smaller than the context limits the length too.
        room = min(self._info.context_length, self._cache.num_tokens)
        eos = frozenset[int]() if stop.ignore_eos else self._eos_token_ids
        sampler = SamplerState(
            request.sampling,
            seed=request.seed,
            choice=choice,
            prompt_token_ids=request.prompt_token_ids,
            logprobs=request.logprobs,
            banned_until_min_tokens=eos | frozenset(stop.token_ids),
            min_tokens=stop.min_tokens,
            grammar=self._grammars.compile(request.output_format) if request.output_format is not None else None,
            vocab_size=self._info.vocab_size,
        )
        return Sequence(
            request,
            choice,
            arrival=self._arrivals,
            limit=room if stop.max_tokens is None else min(room, prompt + stop.max_tokens),
            prefix_root=self._cache.prefix_root(request.request_id, has_siblings=request.n > 1),
            sampler=sampler,
            text=SequenceText(self._tokenizer, request.prompt_token_ids, stop, self._eos_token_ids),
        )
