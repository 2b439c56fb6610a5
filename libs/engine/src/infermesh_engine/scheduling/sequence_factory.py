"""Turns a request into sequences, one for each choice, or refuses one that can never run here."""

from functools import cached_property

from tokenizers import Tokenizer

from infermesh_engine.requests.output import TokenLogprob
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.requests.validate import EVERY_CHOICE_FINISHED
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.sampling.grammars.grammar import GrammarFactory
from infermesh_engine.sampling.restrictions import Restrictions, TokenRule
from infermesh_engine.sampling.sampler_state import SamplerState
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.prompt_images import PromptImages
from infermesh_engine.scheduling.prompt_scores import PromptScores
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.speculation.prompt_index import SharedIndex
from infermesh_engine.text.sequence_text import SequenceText
from infermesh_engine.text.token_bytes import TokenBytes
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
        self._token_bytes = TokenBytes(tokenizer)
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
        images = PromptImages(request.images) if request.images else None
        index = SharedIndex()
        choices = (choice for choice in range(request.n) if choice not in finished)
        sequences = [self._sequence(request, choice, images, index) for choice in choices]
        if request.prompt_logprobs is not None:  # the first one computes the prompt for all
            token_id = request.prompt_token_ids[0]
            first = TokenLogprob(token_id, 0.0, self._token_bytes[token_id])
            sequences[0].scores = PromptScores(first, request.prompt_logprobs)
        return sequences

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

    def _sequence(
        self, request: GenerationRequest, choice: int, images: PromptImages | None, index: SharedIndex
    ) -> Sequence:
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
            grammar=self._rule(request),
            vocab_size=self._info.vocab_size,
        )
        return Sequence(
            request,
            choice,
            arrival=self._arrivals,
            limit=room if stop.max_tokens is None else min(room, prompt + stop.max_tokens),
            prefix_root=self._cache.prefix_root(
                request.request_id, has_siblings=request.n > 1, salt=request.cache_salt
            ),
            sampler=sampler,
            images=images,
            prompt_index=index,
            text=SequenceText(
                self._tokenizer,
                request.prompt_token_ids,
                stop,
                self._eos_token_ids,
                request.text,
                special_token_ids=self._special_token_ids if request.text.shown_token_ids else frozenset(),
            ),
        )

    @cached_property
    def _special_token_ids(self) -> frozenset[int]:
        added = self._tokenizer.get_added_tokens_decoder().items()
        return frozenset(token_id for token_id, token in added if token.special)

    def _rule(self, request: GenerationRequest) -> TokenRule | None:
        """Which tokens the output may have; None: all."""
        format_, sampling = request.output_format, request.sampling
        rule: TokenRule | None = self._grammars.compile(format_) if format_ is not None else None
        if not sampling.allowed_token_ids and not sampling.bad_words:
            return rule
        return Restrictions(
            rule,
            allowed_token_ids=sampling.allowed_token_ids,
            bad_words=sampling.bad_words,
            vocab_size=self._info.vocab_size,
        )
