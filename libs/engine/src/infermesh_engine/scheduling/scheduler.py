"""Decides which sequences run in the next step and with how many tokens each."""

from bisect import insort
from collections.abc import Iterable

from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import ChunkList, Plan, PrefillChunk
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.scheduling.step_budget import StepBudget


def _order(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.order


class Scheduler:
    """Continuous batching with chunked prefill. Sequences are served by priority, then by arrival.

    A sequence is admitted once there are blocks for all its tokens, so only decodes need more blocks later. When none
    are left, the sequence that would be served last loses its blocks and waits again with the tokens it has generated.
    """

    def __init__(
        self,
        cache: KvCache,
        *,
        max_sequences: int,
        max_batched_tokens: int,
        min_run_tokens: int = 1,
        whole_images: bool = False,
    ) -> None:
        """`min_run_tokens`: RunnerInfo's; a sequence's first chunk is shorter only if the whole sequence is.

        `whole_images`: RunnerInfo's; no chunk ends inside a span of an image.
        """
        self.preemptions = 0
        self.looked_up_tokens = 0
        """Prompt tokens that were looked up in the prefix cache since the start, once for each sequence."""
        self.cached_tokens = 0
        """Looked-up tokens that were found there."""
        self._cache = cache
        self._max_sequences = max_sequences
        self._budget = StepBudget(max_batched_tokens=max_batched_tokens, min_run_tokens=min_run_tokens)
        self._min_run_tokens = min_run_tokens
        self._whole_images = whole_images
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._refused: tuple[Sequence, int] | None = None
        """The last sequence that did not fit, and the cache's count of releases at that time."""

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Includes choices that wait until the prompt they share is computed."""
        leaders = (*self._waiting, *self._running)
        return len(self._waiting) + sum(len(sequence.followers) for sequence in leaders)

    @property
    def has_work(self) -> bool:
        return bool(self._running or self._waiting)

    @property
    def waiting_tokens(self) -> int:
        """Tokens yet to be prefilled of all sequences, without those expected in the prefix cache."""
        tokens = sum(sequence.pending for sequence in self._running if sequence.pending > 1)
        tokens += sum(s.num_tokens - (0 if s.was_admitted else s.cached_tokens) for s in self._waiting)
        for leader in (*self._waiting, *self._running):
            tokens += sum(sequence.num_tokens - self._shared_tokens(sequence) for sequence in leader.followers)
        return tokens

    def add(self, sequence: Sequence) -> None:
        """Queues a sequence. Its followers are queued once the KV of its prompt is computed."""
        if self._cache.prefix_caching:
            sequence.cached_tokens = len(self._cache.match(sequence)) * self._cache.block_size
        for follower in sequence.followers:
            if follower.images is not None:
                begin = self._shared_tokens(follower) - self._min_run_tokens + 1
                follower.images.await_choice(begin, follower.choice)
        insort(self._waiting, sequence, key=_order)

    def remove(self, sequence: Sequence) -> None:
        """Frees the sequence's blocks at once, and forgets it and its followers. Does nothing for an unknown one."""
        self._cache.free(sequence)
        if sequence in self._running:
            self._running.remove(sequence)
        elif sequence in self._waiting:
            self._waiting.remove(sequence)
        sequence.followers = []

    def schedule(self) -> Plan:
        """Plans the next step within the token budget: decodes first, then chunks of prompts. May preempt.

        It may be called again without a commit in between. The plan is empty only if there is no work, or if all of it
        waits for expected tokens.
        """
        budget = self._budget.tokens
        decodes = self._schedule_decodes(budget)
        chunks = self._schedule_prefills(budget - len(decodes), may_exceed=not decodes)
        return Plan(decodes, chunks)

    def commit(self, plan: Plan) -> None:
        """Counts the plan's tokens as computed and lets other sequences share them."""
        self.advance(plan)
        self.settle(plan)

    def advance(self, plan: Plan) -> None:
        """Counts the plan's tokens as computed for these sequences' next plan, but does not share them yet."""
        for sequence in plan.decoding:
            sequence.computed += 1
        for chunk in plan.prefills:
            chunk.sequence.computed += chunk.tokens

    def settle(self, plan: Plan, completed: Iterable[Sequence] = ()) -> None:
        """Lets others share what an advanced plan computed. Its sequences may have been preempted or removed since.

        `completed`: sequences whose last pending token the plan computed, even if they have been preempted since.
        """
        size = self._cache.block_size
        for sequence in plan.decoding:
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
        self._budget.recover()

    def spare_tokens(self, plan: Plan) -> int:
        """How many more tokens the plan may have."""
        return max(0, self._budget.tokens - len(plan.decodes) - plan.prefill_tokens)

    def reserve(self, sequence: Sequence, tokens: int) -> int:
        """Makes room for up to `tokens` guesses after the token that a sequence decodes; returns for how many.

        Takes only blocks that nobody needs soon: it preempts no sequence, and leaves a block for each running one.
        `trim` takes back what is not used.
        """
        while sequence.capacity <= sequence.computed + tokens and self._cache.pool.available > len(self._running):
            self._cache.grow(sequence)
        return min(tokens, sequence.capacity - sequence.computed - 1)

    def accept(self, sequence: Sequence) -> None:
        """Counts the token that a sequence got last as computed: the step computed it as a guess, and it was right."""
        sequence.computed += 1
        if sequence.computed % self._cache.block_size == 0:
            self._cache.publish(sequence)

    def trim(self, sequence: Sequence) -> None:
        """Takes back the room of guesses that were wrong. Does nothing for a sequence that was removed."""
        self._cache.trim(sequence)

    def revoke(self, plan: Plan) -> None:
        """Takes back an advanced plan that failed: its sequences lose their blocks and wait again."""
        for sequence in [*plan.decoding, *(chunk.sequence for chunk in plan.prefills)]:
            if sequence in self._running:
                self._running.remove(sequence)
                self._preempt(sequence)

    def shrink(self, plan: Plan) -> Sequence | None:
        """Lowers the token budget because the plan did not fit the device; sequences left out keep their blocks.

        Returns the sequence that does not fit even alone with its fewest tokens; the caller has to remove it.
        """
        return self._budget.shrink(plan)

    def _schedule_decodes(self, budget: int) -> list[Sequence]:
        decodes: list[Sequence] = []
        for sequence in self._running:  # _grow pops from the end of this list, which is safe during iteration
            if sequence.num_tokens - sequence.computed != 1 or sequence.num_tokens >= sequence.limit:
                continue  # in prefill, or its expected token is its last
            if len(decodes) == budget:
                break
            if sequence.computed == sequence.capacity and not self._grow(sequence):
                break
            decodes.append(sequence)
        return decodes

    def _grow(self, sequence: Sequence) -> bool:
        """Gives the sequence a block, preempting others from the end; False when it was preempted itself."""
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
        """Chunks within the budget. With `may_exceed` the first one may exceed it, so that the step is not empty."""
        chunks = ChunkList()
        for sequence in self._running:
            pending = sequence.num_tokens - sequence.computed
            least = 1 if sequence.computed else min(pending, self._min_run_tokens)
            if pending > 1 and (budget >= least or (may_exceed and chunks.is_empty)):
                tokens = self._uncut(sequence, max(least, min(pending, budget)))
                if tokens <= max(least, budget) or (may_exceed and chunks.is_empty):
                    budget -= chunks.add(PrefillChunk(sequence, tokens))
        least = self._min_run_tokens
        while self._waiting and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            if not (budget >= least or (may_exceed and chunks.is_empty)) or not self._admit(sequence):
                break
            tokens = self._uncut(sequence, min(sequence.pending, max(budget, least)))
            if tokens > max(budget, least) and not (may_exceed and chunks.is_empty):
                break  # admitted, and its first image runs in a later step
            budget -= chunks.add(PrefillChunk(sequence, tokens))
        return chunks.ordered

    def _uncut(self, sequence: Sequence, tokens: int) -> int:
        """How many tokens of a chunk to compute, if no image may be cut."""
        if not self._whole_images or sequence.images is None:
            return tokens
        return sequence.images.whole(sequence.computed, tokens)

    def _admit(self, sequence: Sequence) -> bool:
        """Moves the first waiting sequence to the running ones if its tokens fit."""
        releases = self._cache.pool.releases
        if self._refused == (sequence, releases):
            return False
        prefix = self._cache.match(sequence)
        # Leave a block for each running sequence, or the one admitted now would be preempted right away.
        if not self._cache.can_allocate(sequence, prefix, headroom_blocks=len(self._running)):
            self._refused = (sequence, releases)
            return False
        self._cache.allocate(sequence, prefix)
        if sequence.images is not None:
            sequence.images.skip(sequence.computed - self._min_run_tokens + 1, sequence.choice)
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
        """Tokens it will share with its leader: the full blocks of the prompt, but never its own last token."""
        size = self._cache.block_size
        return min(follower.prompt_tokens, follower.num_tokens - 1) // size * size
