"""Owns requests from submit to their last output: schedule, run, sample, emit. Knows no wire format and no device."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from tokenizers import Tokenizer

from infermesh_engine.requests.output import EngineLoad, Failed, Finished, Output
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import Logits, ModelRunner
from infermesh_engine.runners.sampling_runner import SamplingRunner
from infermesh_engine.sampling.grammar import GrammarFactory
from infermesh_engine.sampling.sampler import SampledToken, SamplerState, sample
from infermesh_engine.scheduling.batch_builder import BatchBuilder
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.scheduler import Plan, Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.steps.emission import emit, replay
from infermesh_engine.steps.overlapped import Pipeline
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_engine.text.sequence_text import SequenceText
from infermesh_engine.text.token_bytes import TokenBytes
from infermesh_runtime.errors import (
    ContextLengthExceeded,
    FailedPrecondition,
    InfermeshError,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How much an engine does at once."""

    max_sequences: int = 64
    """Sequences in the running batch."""
    max_batched_tokens: int = 2048
    """Tokens in one step, at least one for each sequence. More prefills faster; fewer delays running sequences less."""
    prefix_caching: bool = True
    """Whether KV blocks outlive their sequences, for others that begin with the same tokens."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequences <= self.max_batched_tokens:
            raise ValueError(f"1 ≤ max_sequences ≤ max_batched_tokens does not hold: {self}")


class Engine:
    """Runs requests on one runner, all that fit at once. One thread uses it."""

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: Tokenizer,
        eos_token_ids: frozenset[int],
        config: EngineConfig,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`clock` gives seconds and is only used to measure rates. `close` closes the runner."""
        self._runner = runner
        self._info = runner.info
        self._tokenizer = tokenizer
        self._eos_token_ids = eos_token_ids
        self._grammars = GrammarFactory(tokenizer, eos_token_ids)
        self._token_bytes = TokenBytes(tokenizer)
        self._cache = KvCache(
            num_blocks=self._info.num_blocks,
            block_size=self._info.block_size,
            prefix_caching=config.prefix_caching,
        )
        self._scheduler = Scheduler(
            self._cache,
            max_sequences=config.max_sequences,
            max_batched_tokens=config.max_batched_tokens,
            min_run_tokens=self._info.min_run_tokens,
        )
        self._batches = BatchBuilder(
            max_batched_tokens=config.max_batched_tokens,
            max_sequences=config.max_sequences,
            info=self._info,
        )
        self._meter = RateMeter(clock)
        self._pipeline: Pipeline | None = None
        if isinstance(runner, SamplingRunner) and self._info.samples:
            self._pipeline = Pipeline(runner, self._scheduler, self._batches, self._meter, self)
        self._requests: dict[str, list[Sequence]] = {}
        self._replayed: list[Finished] = []
        self._arrivals = 0
        self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to do or to say."""
        in_flight = self._pipeline is not None and self._pipeline.in_flight
        return self._scheduler.has_work or bool(self._replayed) or in_flight

    def prepare(self) -> None:
        """Does now what the first constrained request would else make all others wait for (0.3 to 2.4 s)."""
        with contextlib.suppress(Unimplemented):  # such a request is told so
            self._grammars.prepare()

    def submit(self, request: GenerationRequest) -> None:
        """Takes a request that `validate.validate` has passed; its outputs come from `step`.

        Raises ContextLengthExceeded when the prompt leaves no room in the context, FailedPrecondition when it, or what
        was generated already, can never fit the KV cache, InvalidArgument for a request id in use, for a grammar that
        does not compile, and when there is nothing to run.
        """
        self._check(request)
        self._arrivals += 1
        delivered = {continuation.choice: continuation for continuation in request.generated}
        live: list[Sequence] = []
        ended: list[Finished] = []
        for choice in range(request.n):
            continuation = delivered.get(choice)
            if continuation is not None and continuation.finished:
                continue
            sequence = self._sequence(request, choice)
            finished = replay(sequence, continuation.token_ids) if continuation is not None else None
            if finished is not None:
                ended.append(finished)
            else:
                live.append(sequence)
        self._replayed += ended
        if live:
            self._requests[request.request_id] = live
            live[0].followers = live[1:]
            self._scheduler.add(live[0])

    def cancel(self, request_id: str) -> None:
        """Frees the request's blocks now; nothing more is said of it. A no-op for an unknown or finished request."""
        self._replayed = [finished for finished in self._replayed if finished.request_id != request_id]
        for sequence in self._requests.pop(request_id, ()):
            self._scheduler.remove(sequence)

    def step(self) -> list[Output]:
        """Runs one batch; for each sequence that got a token its Delta, then its Finished if it ended.

        On a runner that samples, batches overlap, and the tokens are those of the batch before (see pipeline.py).
        What one sequence's sampling or text raises ends its request (Failed) and no other. What the runner raises
        other than ResourceExhausted passes through; the engine cannot be used after it.
        """
        outputs: list[Output] = [*self._replayed]
        self._replayed.clear()
        if self._pipeline is not None:
            self._generated_tokens += self._pipeline.step(outputs)
            return outputs
        self._meter.begin()
        plan, sampled, logits = self._run(outputs)
        self._scheduler.commit(plan)
        tokens = sample(logits, [sequence.sampler for sequence in sampled]) if logits is not None and sampled else ()
        for sequence, token in zip(sampled, tokens, strict=True):
            self.take(sequence, token, outputs)
        self._generated_tokens += len(sampled)
        self._meter.end(prefill_tokens=plan.prefill_tokens, decode_tokens=len(plan.decodes))
        return outputs

    def take(self, sequence: Sequence, token: SampledToken | Exception, outputs: list[Output]) -> None:
        """For the steps alone: gives a sequence its token, or fails its request; a no-op where it is gone."""
        if sequence not in self._requests.get(sequence.request_id, ()):
            return  # another choice of the request failed just now, or it ended while the token was on its way
        if isinstance(token, Exception):
            outputs.append(self._fail(sequence, token))
            return
        try:
            delta, finished = emit(sequence, token, self._token_bytes)
        except Exception as error:  # a boundary: what its grammar or its text raises must not end the others
            outputs.append(self._fail(sequence, error))
            return
        outputs.append(delta)
        if finished is not None:
            outputs.append(finished)
            self._forget(sequence)

    def load(self) -> EngineLoad:
        """What the engine is doing."""
        scheduler = self._scheduler
        return EngineLoad(
            running=scheduler.running,
            waiting=scheduler.waiting,
            waiting_tokens=scheduler.waiting_tokens,
            kv_cache_usage=self._cache.usage,
            prefill_tokens_per_s=self._meter.prefill.per_s,
            decode_tokens_per_s=self._meter.decode.per_s,
            kv_cache_tokens=self._cache.num_tokens,
            preemptions=scheduler.preemptions,
            looked_up_tokens=scheduler.looked_up_tokens,
            cached_tokens=scheduler.cached_tokens,
            generated_tokens=self._generated_tokens,
        )

    def close(self) -> None:
        """Drops every request and closes the runner."""
        for request_id in list(self._requests):
            self.cancel(request_id)
        self._replayed.clear()
        self._runner.close()

    def _check(self, request: GenerationRequest) -> None:
        prompt, context, cache = len(request.prompt_token_ids), self._info.context_length, self._cache.num_tokens
        if not prompt:
            raise InvalidArgument("the prompt has no tokens", fields={"token_ids": "is empty"})
        if prompt >= context:
            raise ContextLengthExceeded(
                f"the prompt has {prompt} tokens and leaves no room in the context of {context}",
                metadata={"prompt_tokens": str(prompt), "context_length": str(context)},
            )
        if prompt >= cache:
            raise FailedPrecondition(  # not ResourceExhausted: clients take that as a rate limit and try again
                f"the prompt has {prompt} tokens and can never fit the KV cache of {cache}",
                reason="KV_CACHE_TOO_SMALL",
                metadata={"prompt_tokens": str(prompt), "kv_cache_tokens": str(cache)},
            )
        longest = prompt + max((len(part.token_ids) for part in request.generated if not part.finished), default=0)
        if longest > min(context, cache):  # it would end at a token that the client has long had
            raise FailedPrecondition(
                f"prompt and generated tokens are {longest}, and at most {min(context, cache)} fit",
                reason="CONTINUATION_TOO_LONG",
                metadata={"tokens": str(longest), "room_tokens": str(min(context, cache))},
            )
        if request.request_id in self._requests:
            raise InvalidArgument(f"a request {request.request_id!r} is already running")
        if sum(continuation.finished for continuation in request.generated) >= request.n:
            raise InvalidArgument(
                "every choice is finished: there is nothing to run", fields={"generated": "has every choice finished"}
            )

    def _sequence(self, request: GenerationRequest, choice: int) -> Sequence:
        stop = request.stop
        prompt = len(request.prompt_token_ids)
        # The KV cache bounds the context too, where it is the smaller one.
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

    def _run(self, outputs: list[Output]) -> tuple[Plan, list[Sequence], Logits | None]:
        """Runs the largest batch that the device's memory allows; no logits when there is nothing to run."""
        while True:
            plan = self._scheduler.schedule()
            sampled = plan.sampled
            if plan.is_empty:
                return plan, sampled, None
            try:
                return plan, sampled, self._runner.run(self._batches.build(plan, sampled))
            except ResourceExhausted as error:
                too_large = self._scheduler.shrink(plan)
                if too_large is not None:
                    self.take(too_large, error, outputs)

    def _fail(self, sequence: Sequence, error: Exception) -> Failed:
        self.cancel(sequence.request_id)
        if not isinstance(error, InfermeshError):
            _log.error("a request failed in the engine", exc_info=error)
            error = Internal(f"internal error in the engine: {error!r}")
        return Failed(sequence.request_id, error)

    def _forget(self, sequence: Sequence) -> None:
        """Frees a sequence that has ended."""
        self._scheduler.remove(sequence)
        sequences = self._requests[sequence.request_id]
        sequences.remove(sequence)
        if not sequences:
            del self._requests[sequence.request_id]
