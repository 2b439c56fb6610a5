"""Owns who runs in the next step and with how many tokens. Knows no logits, no text and no device."""

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.sequence import Sequence

RECOVERY_STEPS = 32
"""Steps that must fit after a batch did not, before a larger one is tried."""


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """The next `tokens` tokens of a sequence, to be prefilled."""

    sequence: Sequence
    tokens: int

    @property
    def completes(self) -> bool:
        """Whether nothing of the sequence is left to compute after it, so that its next token can be sampled."""
        return self.tokens == self.sequence.pending


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: sequences that decode one token each, then prefill chunks."""

    decodes: list[Sequence] = field(default_factory=list)
    prefills: list[PrefillChunk] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self.decodes and not self.prefills

    @property
    def prefill_tokens(self) -> int:
        return sum(chunk.tokens for chunk in self.prefills)

    @property
    def sampled(self) -> list[Sequence]:
        """The sequences that get a token, in the order of the batch. Meaningful until the plan is committed."""
        return self.decodes + [chunk.sequence for chunk in self.prefills if chunk.completes]


class Scheduler:
    """Keeps the waiting and the running sequences, both in serving order: priority, then arrival.

    A sequence is admitted when blocks for all its tokens are there, so only decodes ever need more; when there are none
    left, the sequence that is served last loses its blocks and waits again with what it has generated.
    """

    def __init__(self, cache: KvCache, *, max_sequences: int, max_batched_tokens: int, min_run_tokens: int = 1) -> None:
        """`min_run_tokens`: RunnerInfo's; a sequence's first chunk is not shorter unless the sequence is."""
        self.preemptions = 0
        self.looked_up_tokens = 0
        """Prompt tokens that were looked up in the prefix cache since the start, once for each sequence."""
        self.cached_tokens = 0
        """Those of them that were found there."""
        self._cache = cache
        self._max_sequences = max_sequences
        self._max_batched_tokens = max_batched_tokens
        self._min_run_tokens = min_run_tokens
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._token_limit = max_batched_tokens
        self._steps_within_limit = 0
        self._refused: tuple[Sequence, int] | None = None
        """The sequence that did not fit when it was last tried, and the cache's count of releases then."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Includes choices that wait for their siblings' prompt."""
        leaders = (*self._waiting, *self._running)
        return len(self._waiting) + sum(len(sequence.followers) for sequence in leaders)

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Tokens yet to be prefilled, waiting or running, not counting those that are expected to be cached."""
        tokens = sum(sequence.pending for sequence in self._running if sequence.pending > 1)
        tokens += sum(s.num_tokens - (0 if s.was_admitted else s.cached_tokens) for s in self._waiting)
        for leader in (*self._waiting, *self._running):
            tokens += sum(sequence.num_tokens - self._shared_tokens(sequence) for sequence in leader.followers)
        return tokens

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence; its followers are queued when the KV of its prompt is computed."""
        if self._cache.prefix_caching:
            sequence.cached_tokens = len(self._cache.match(sequence)) * self._cache.block_size
        insort(self._waiting, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Frees the sequence's blocks at once and forgets it and its followers. A no-op when it is not here."""
        self._cache.free(sequence)
        if sequence in self._running:
            self._running.remove(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        sequence.followers = []

    def schedule(self) -> Plan:
        """Decides the next step within the token budget: decodes first, then chunks of prompts. May preempt.

        May be called again without a commit between; the plan is empty only if there is no work, or none before
        expected tokens have come.
        """
        decodes = self._schedule_decodes(self._token_limit)
        chunks = self._schedule_prefills(self._token_limit - len(decodes), may_exceed=not decodes)
        return Plan(decodes, chunks)

    def commit(self, plan: Plan) -> None:
        """Counts the plan's tokens as computed, and lets others use them."""
        self.advance(plan)
        self.settle(plan)

    def advance(self, plan: Plan) -> None:
        """Counts the plan's tokens as computed for the next plan of the same sequences, and for nobody else."""
        for sequence in plan.decodes:
            sequence.computed += 1
        for chunk in plan.prefills:
            chunk.sequence.computed += chunk.tokens

    def settle(self, plan: Plan, completed: Iterable[Sequence] = ()) -> None:
        """Lets others use what an advanced plan computed; its sequences may have been preempted or removed since.

        `completed`: sequences that the plan left nothing to compute of, where they may have been preempted.
        """
        size = self._cache.block_size
        for sequence in plan.decodes:
            if sequence.computed % size == 0:
                self._cache.publish(sequence)
            if sequence.followers:
                self._queue_followers(sequence)
        for chunk in plan.prefills:
            self._cache.publish(chunk.sequence)
            if chunk.sequence.followers and chunk.sequence.computed >= chunk.sequence.prompt_tokens:
                self._queue_followers(chunk.sequence)
        for sequence in completed:
            if sequence.followers:
                self._queue_followers(sequence)
        if self._token_limit < self._max_batched_tokens:
            self._recover()

    def revoke(self, plan: Plan) -> None:
        """Takes back an advanced plan that was not computed after all: its sequences lose their blocks and wait."""
        for sequence in [*plan.decodes, *(chunk.sequence for chunk in plan.prefills)]:
            if sequence in self._running:
                self._running.remove(sequence)
                self._preempt(sequence)

    def shrink(self, plan: Plan) -> Sequence | None:
        """Lowers the token budget after the plan did not fit the device; what is left out keeps its blocks.

        Returns the sequence that does not even fit alone with its fewest tokens, which the caller has to remove.
        """
        decodes, prefill = len(plan.decodes), plan.prefill_tokens
        self._steps_within_limit = 0
        if decodes + len(plan.prefills) == 1 and prefill <= self._min_run_tokens:
            self._token_limit = self._max_batched_tokens
            return plan.decodes[0] if decodes else plan.prefills[0].sequence
        self._token_limit = max(1, decodes + prefill // 2 if prefill else decodes // 2)
        return None

    def _schedule_decodes(self, budget: int) -> list[Sequence]:
        decodes: list[Sequence] = []
        for sequence in self._running:  # preempting takes from its end, which iteration allows
            if sequence.num_tokens - sequence.computed != 1 or sequence.num_tokens >= sequence.limit:
                continue  # at its limit when its last token is expected
            if len(decodes) == budget:
                break
            if sequence.computed == sequence.capacity and not self._grow(sequence):
                break
            decodes.append(sequence)
        return decodes

    def _grow(self, sequence: Sequence) -> bool:
        """Adds a block, preempting from the end; False when the sequence itself was preempted."""
        while not self._cache.can_grow():
            victim = self._running.pop()
            self._preempt(victim)
            if victim is sequence:
                return False
        self._cache.grow(sequence)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self._cache.free(sequence)
        self.preemptions += 1
        insort(self._waiting, sequence, key=_order)

    def _schedule_prefills(self, budget: int, *, may_exceed: bool) -> list[PrefillChunk]:
        """Chunks within the budget; `may_exceed`: the first may need more, for a step that would else be empty."""
        chunks: list[PrefillChunk] = []
        for sequence in self._running:
            pending = sequence.num_tokens - sequence.computed
            least = 1 if sequence.computed else min(pending, self._min_run_tokens)
            if pending > 1 and (budget >= least or (may_exceed and not chunks)):
                chunks.append(PrefillChunk(sequence, max(least, min(pending, budget))))
                budget -= chunks[-1].tokens
        least = self._min_run_tokens
        while self._waiting and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            if not (budget >= least or (may_exceed and not chunks)) or not self._admit(sequence):
                break
            chunks.append(PrefillChunk(sequence, min(sequence.pending, max(budget, least))))
            budget -= chunks[-1].tokens
        return chunks

    def _admit(self, sequence: Sequence) -> bool:
        """Moves the first waiting sequence to the running ones, if its tokens fit."""
        releases = self._cache.pool.releases
        if self._refused == (sequence, releases):
            return False
        prefix = self._cache.match(sequence)
        # A block of headroom for each running sequence, or the one admitted now would be preempted right away.
        if not self._cache.can_allocate(sequence, prefix, headroom_blocks=len(self._running)):
            self._refused = (sequence, releases)
            return False
        self._cache.allocate(sequence, prefix)
        if not sequence.was_admitted:
            self._count_cached(sequence)
        del self._waiting[0]
        insort(self._running, sequence, key=_order)
        return True

    def _count_cached(self, sequence: Sequence) -> None:
        sequence.was_admitted = True
        if self._cache.prefix_caching:
            sequence.cached_tokens = min(sequence.computed, sequence.prompt_tokens)
            self.looked_up_tokens += sequence.prompt_tokens
            self.cached_tokens += sequence.cached_tokens

    def _queue_followers(self, leader: Sequence) -> None:
        for sequence in leader.followers:
            sequence.keys = leader.keys[: sequence.prompt_tokens // self._cache.block_size]
            self.add(sequence)
        leader.followers = []

    def _shared_tokens(self, follower: Sequence) -> int:
        """Tokens that it will share with its leader: the prompt's full blocks, but never its last token."""
        size = self._cache.block_size
        return min(follower.prompt_tokens, follower.num_tokens - 1) // size * size

    def _recover(self) -> None:
        self._steps_within_limit += 1
        if self._steps_within_limit == RECOVERY_STEPS:
            self._steps_within_limit = 0
            self._token_limit = min(self._max_batched_tokens, 2 * self._token_limit)
