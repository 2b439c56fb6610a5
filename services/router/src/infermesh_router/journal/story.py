"""Collects what becomes of one request while it runs, and is kept for its receipt: plain values, so that this is quick.

Nothing of the prompt or of the output is in it.
"""

import time
from collections.abc import Callable, Sequence

from infermesh.inference.v1 import inference_pb2 as inference
from infermesh_router.fleet.reports.report import DEVICES
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.snapshot import DeviceKind, Wanted

_MOST_FIELDS = 64
_MOST_MOVES = 32
_MOST_CHOICES = 128
_LONGEST = 200
"""Characters of a name that are kept: clients choose models and fields."""
_BASE_BYTES = 2500
"""About what a story takes in memory, its objects included, without what it has lists of."""

Move = tuple[inference.Failover, int, float]
"""A move of the stream: where and why, the tokens that the client had by then, and the seconds since its arrival."""


class Story:
    """What becomes of one call. Its methods are called as things happen; `close` ends it.

    Attributes that most calls never set are the class's: making a story must cost next to nothing.
    """

    call = model = alias = status = error = ""
    device: DeviceKind = DeviceKind.UNKNOWN
    client = ""
    """Whose call it was, as the queue names clients."""
    choice: Choice | None = None
    queued_s = loading_s = overhead_s = first_token_s = total_s = ended_s = 0.0
    prompt_tokens = completion_tokens = cached_tokens = seed = 0
    prefill_ms = decode_ms = 0.0
    sampling = b""
    """The serialised GenerationDefaults in use, but for lists."""
    asked: tuple[str, ...] = ()
    """The names of the sampling parameters that the request itself set."""
    finish_reasons: tuple[inference.FinishReason, ...] = ()
    moves: Sequence[Move] = ()
    retries: Sequence[tuple[str, str]] = ()
    """Endpoints that failed before the first token, and why."""

    def __init__(
        self,
        request_id: str = "",
        *,
        since_s: float = 0.0,
        ignored: Sequence[str] = (),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`since_s`: when the call arrived, by the clock. `ignored`: fields of its body without an effect."""
        self.request_id = request_id
        self.ignored = ignored
        self._clock = clock
        self._since_s = since_s

    def answered(
        self, choice: Choice | None, device: DeviceKind, *, queued_s: float, loading_s: float, overhead_s: float
    ) -> None:
        """An endpoint answers a call that is no stream of tokens."""
        self.choice, self.device = choice, device
        self.queued_s, self.loading_s, self.overhead_s = queued_s, loading_s, overhead_s

    def waited(self, *, queued_s: float, loading_s: float) -> None:
        """It waited for an endpoint, and got none."""
        self.queued_s, self.loading_s = queued_s, loading_s

    def failed(self, endpoint: str, reason: str) -> None:
        """An endpoint failed before the first token."""
        self.retries = (*self.retries, (endpoint, reason))[:_MOST_MOVES]

    def noted_first(self) -> None:
        """Its first token, or part of an answer, is there."""
        self.first_token_s = self._clock() - self._since_s

    def begun(self, started: inference.Started, choice: Choice | None) -> None:
        """A stream of tokens begins. `started` is what its client gets, `choice` why its endpoint was chosen."""
        self.choice, self.device = choice, DEVICES.get(started.device, DeviceKind.UNKNOWN)
        self.queued_s, self.loading_s = started.queued_ms / 1000, started.loading_ms / 1000
        self.overhead_s = started.overhead_ms / 1000
        self.model, self.seed, self.prompt_tokens = started.model, started.seed, started.prompt_tokens
        if started.ignored_fields:
            self.ignored = (*self.ignored, *started.ignored_fields)
        if started.HasField("in_use"):
            self.sampling = _without_lists(started.in_use).SerializeToString()

    def moved(self, move: inference.Failover, *, after_tokens: int) -> None:
        """Its stream goes on at another endpoint."""
        kept = inference.Failover()
        kept.CopyFrom(move)
        self.moves = (*self.moves, (kept, after_tokens, self._clock() - self._since_s))[:_MOST_MOVES]

    def ended(self, ends: Sequence[inference.Finished], *, tokens: int) -> None:
        """The ends of its choices, as far as they came. `tokens`: all that its client was given."""
        for end in ends:
            usage, timings = end.usage, end.timings
            self.completion_tokens += usage.completion_tokens
            self.cached_tokens += usage.cached_tokens
            self.prefill_ms = max(self.prefill_ms, timings.prompt_ms)
            self.decode_ms = max(self.decode_ms, timings.completion_ms)
        self.completion_tokens = max(self.completion_tokens, tokens)  # choices that were stopped told no usage
        self.finish_reasons = tuple([end.finish_reason for end in ends[:_MOST_CHOICES]])

    def used(self, usage: inference.Usage) -> None:
        """The tokens of a call that is no Generate."""
        self.prompt_tokens, self.cached_tokens = usage.prompt_tokens, usage.cached_tokens
        self.completion_tokens = usage.completion_tokens

    def close(self, wanted: Wanted, *, call: str, asked: tuple[str, ...], status: str, error: str) -> None:
        """The call has ended. What clients chose is cut to a length that can be kept."""
        self.call, self.asked, self.status, self.error = call, asked, status, error
        self.client, self.alias = wanted.client, wanted.alias[:_LONGEST]
        self.model = (self.model or wanted.model)[:_LONGEST]
        self.total_s = self._clock() - self._since_s
        self.ended_s = time.time()
        if self.ignored:
            self.ignored = tuple(path[:_LONGEST] for path in [*dict.fromkeys(self.ignored)][:_MOST_FIELDS])

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        listed = _LONGEST * (len(self.ignored) + len(self.moves) + len(self.retries)) + 8 * len(self.finish_reasons)
        return _BASE_BYTES + len(self.client) + len(self.sampling) + listed


def _without_lists(in_use: inference.GenerationDefaults) -> inference.GenerationDefaults:
    """The same, without the words and tokens that a request lists."""
    sampling = in_use.sampling
    if not (sampling.bad_words or sampling.allowed_token_ids or sampling.logit_bias):
        return in_use
    kept = inference.GenerationDefaults()
    kept.CopyFrom(in_use)
    for name in ("bad_words", "allowed_token_ids", "logit_bias"):
        kept.sampling.ClearField(name)
    return kept
