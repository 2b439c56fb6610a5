"""Runs generation requests on one runner, batched together: requests in, tokens and text out, step by step."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from tokenizers import Tokenizer

from infermesh_engine.requests.output import EngineLoad, Finished, Output, PromptLogprobs
from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.runners.runner import ModelRunner
from infermesh_engine.runners.sampling_runner import SamplingRunner
from infermesh_engine.runners.shrinking_runner import ShrinkingRunner
from infermesh_engine.sampling.grammars.cache import DEFAULT_CACHE_BYTES, GrammarCache
from infermesh_engine.sampling.grammars.grammar import GrammarFactory
from infermesh_engine.scheduling.batch_builder import BatchBuilder
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.sequence_factory import SequenceFactory
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.steps.emission import replay
from infermesh_engine.steps.live_requests import LiveRequests
from infermesh_engine.steps.overlapped import OverlappedSteps
from infermesh_engine.steps.rate_meter import RateMeter
from infermesh_engine.steps.serial import SerialSteps
from infermesh_engine.steps.speculation import Speculation
from infermesh_engine.text.token_bytes import TokenBytes
from infermesh_runtime.errors import InvalidArgument, Unimplemented

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How much an engine does at once."""

    max_sequences: int = 64
    """Most sequences in the running batch."""
    max_batched_tokens: int = 2048
    """Most tokens in one step, at least max_sequences. More speeds up prefill, fewer delay running sequences less."""
    prefix_caching: bool = True
    """Whether KV blocks are kept after their sequence, for others that begin with the same tokens."""
    grammar_cache_bytes: int = DEFAULT_CACHE_BYTES
    """Most memory for compiled output formats; the newest is kept even if it alone takes more."""
    speculation: SpeculationOptions = field(default_factory=SpeculationOptions)
    """When to guess tokens ahead; only on runners that check drafts."""
    model: str = ""
    """Name of the model, for errors."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequences <= self.max_batched_tokens:
            raise ValueError(f"expected 1 ≤ max_sequences ≤ max_batched_tokens, got {self}")


class Engine:
    """Runs as many requests at once as fit on one runner. It is used from one thread."""

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: Tokenizer,
        eos_token_ids: frozenset[int],
        config: EngineConfig,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`clock` gives seconds and only serves to measure rates. `close` closes the runner."""
        info = runner.info
        self._runner = runner
        self._cache = KvCache(
            num_blocks=info.num_blocks, block_size=info.block_size, prefix_caching=config.prefix_caching
        )
        self._scheduler = Scheduler(
            self._cache,
            max_sequences=config.max_sequences,
            max_batched_tokens=config.max_batched_tokens,
            min_run_tokens=info.min_run_tokens,
            whole_images=info.whole_images,
        )
        self.grammars = GrammarFactory(tokenizer, eos_token_ids, GrammarCache(config.grammar_cache_bytes))
        """Compiles output formats. `submit` compiles one that is not in its cache yet, which may take seconds."""
        self._sequences = SequenceFactory(info, self._cache, tokenizer, eos_token_ids, self.grammars)
        self._requests = LiveRequests(self._scheduler, TokenBytes(tokenizer), config.model, clock)
        self._meter = RateMeter(clock)
        batches = BatchBuilder(
            max_batched_tokens=config.max_batched_tokens, max_sequences=config.max_sequences, info=info
        )
        self._steps: SerialSteps | OverlappedSteps
        self.guesses_ahead = info.checks_drafts and config.speculation.mode != "off"
        """Whether it ever tries guesses of further tokens, so that a prediction is of use."""
        speculation = Speculation(config.speculation, self._scheduler) if self.guesses_ahead else None
        if isinstance(runner, SamplingRunner) and info.samples:
            self._steps = OverlappedSteps(
                runner, self._scheduler, batches, self._meter, self._requests, speculation=speculation
            )
        else:
            self._steps = SerialSteps(
                runner, self._scheduler, batches, self._meter, self._requests, speculation=speculation
            )
        self._early: list[Finished | PromptLogprobs] = []
        """What needs no step, for the next one to report."""
        self._generated_tokens = 0

    @property
    def has_work(self) -> bool:
        """Whether `step` has something to run or to report."""
        return self._scheduler.has_work or bool(self._early) or self._steps.in_flight

    @property
    def broken_requests(self) -> int:
        """How many requests ended because their logits were not finite."""
        return self._requests.broken

    def prepare(self) -> None:
        """Does the one-off work (0.3 to 2.4 s) for which the first constrained request would hold up all others."""
        with contextlib.suppress(Unimplemented):  # constrained requests get this error themselves
            self.grammars.prepare()

    def submit(self, request: GenerationRequest) -> None:
        """Takes a request that has passed `validate.validate`; its outputs come from `step`.

        Raises InvalidArgument for a request id in use, and what `SequenceFactory.make` raises.
        """
        if request.request_id in self._requests:
            raise InvalidArgument(f"request {request.request_id!r} is already running; use another request id")
        delivered = {continuation.choice: continuation.token_ids for continuation in request.generated}
        live: list[Sequence] = []
        early: list[Finished | PromptLogprobs] = []
        for sequence in self._sequences.make(request):
            if sequence.scores is not None and sequence.prompt_tokens == 1:
                early.append(sequence.scores.output(request.request_id))
                sequence.scores = None
            finished = replay(sequence, delivered.get(sequence.choice, ()))
            sequence.timing.replayed_tokens = sequence.completion_tokens
            if finished is not None:
                early.append(finished)
            else:
                live.append(sequence)
        self._early += early
        if live:
            self._requests.add(live)

    def cancel(self, request_id: str) -> None:
        """Frees the request's blocks now and reports nothing more of it. Does nothing for an unknown or ended one."""
        self._early = [output for output in self._early if output.request_id != request_id]
        self._requests.cancel(request_id)

    def step(self) -> list[Output]:
        """Runs one batch. Each sequence that got a token gives its Delta, and then its Finished if it ended.

        On a runner that samples, batches overlap, and the tokens are those of the batch before (see steps.overlapped).
        An error in one sequence's sampling or text ends its request (Failed) and no other. Any error of the runner
        except ResourceExhausted is raised, and the engine cannot be used after it.
        """
        outputs: list[Output] = [*self._early]
        self._early.clear()
        self._generated_tokens += self._steps.step(outputs)
        return outputs

    def limit_kv(self, kv_cache_bytes: int) -> int:
        """Uses so much of the KV cache from now on, and gives the memory of the rest back; returns how much it is.

        It is never less than one sequence of full context length needs, nor more than the runner has. A runner that
        cannot shrink keeps all.
        """
        info = self._runner.info
        if not info.kv_shrinks:
            return info.kv_cache_bytes
        block_bytes = info.kv_cache_bytes // info.num_blocks
        blocks = self._cache.resize(kv_cache_bytes // block_bytes, least_tokens=info.context_length)
        self.release_kv()
        return blocks * block_bytes

    def release_kv(self) -> None:
        """Gives back the memory of the KV cache that `limit_kv` took out of use and no sequence uses any more."""
        if isinstance(self._runner, ShrinkingRunner) and not self._steps.in_flight:
            try:
                for blocks in self._cache.pool.outside():
                    self._runner.release_blocks(blocks)
            except OSError as error:
                _log.warning("cannot give back memory of the KV cache", extra={"reason": str(error)})

    def load(self) -> EngineLoad:
        """What the engine is doing now, and its counts since the start."""
        scheduler = self._scheduler
        drafted, accepted = self._steps.checked_guesses
        return EngineLoad(
            running=scheduler.running,
            waiting=scheduler.waiting,
            waiting_tokens=scheduler.waiting_tokens,
            kv_cache_usage=self._cache.usage,
            prefill_tokens_per_s=self._meter.prefill.per_s,
            decode_tokens_per_s=self._meter.decode.per_s,
            kv_cache_tokens=self._cache.num_tokens,
            kv_written_tokens=self._cache.pool.written * self._cache.block_size,
            preemptions=scheduler.preemptions,
            looked_up_tokens=scheduler.looked_up_tokens,
            cached_tokens=scheduler.cached_tokens,
            generated_tokens=self._generated_tokens,
            drafted_tokens=drafted,
            accepted_tokens=accepted,
        )

    def close(self) -> None:
        """Drops every request and closes the runner."""
        self._requests.cancel_all()
        self._early.clear()
        self._runner.close()
