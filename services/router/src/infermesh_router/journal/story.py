"""Collects what becomes of one request while it runs, for its receipt. Nothing of its prompt or its output."""

import time
from collections.abc import Callable, Iterable, Sequence

from infermesh.inference.v1 import inference_pb2 as inference
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.fleet.report import DEVICES
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.snapshot import DeviceKind

_MOST_FIELDS = 64
_MOST_MOVES = 32
_LONGEST = 200
"""Characters of a name that are kept: clients choose request ids, models and fields."""
_FINISH_REASONS = {
    inference.FINISH_REASON_STOP: "stop",
    inference.FINISH_REASON_LENGTH: "length",
    inference.FINISH_REASON_TOOL_CALLS: "tool_calls",
    inference.FINISH_REASON_CANCELLED: "cancelled",
}


class Story:
    """What becomes of one call. Its methods are called as things happen; `receipt` tells them all."""

    __slots__ = (
        "_arrived_s",
        "_choice",
        "_clock",
        "_device",
        "_ends",
        "_first_token_s",
        "_loading_s",
        "_moves",
        "_overhead_s",
        "_queued_s",
        "_retries",
        "_since_s",
        "_started",
        "_usage",
        "ignored",
        "request_id",
    )

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
        self._arrived_s = time.time() - (clock() - since_s)
        self._choice: Choice | None = None
        self._device = DeviceKind.UNKNOWN
        self._queued_s = self._loading_s = self._overhead_s = self._first_token_s = 0.0
        self._started: inference.Started | None = None
        self._ends: list[inference.Finished] = []
        self._usage: inference.Usage | None = None
        self._moves: list[pb.Move] = []
        self._retries: list[pb.FailedTry] = []

    def sent(
        self, choice: Choice | None, device: DeviceKind, *, queued_s: float, loading_s: float, overhead_s: float
    ) -> None:
        """A call that is answered by one message is sent to an endpoint. The last one counts."""
        self._choice, self._device = choice, device
        self._queued_s, self._loading_s, self._overhead_s = queued_s, loading_s, overhead_s

    def failed(self, endpoint: str, reason: str) -> None:
        """An endpoint failed before the first token."""
        if len(self._retries) < _MOST_MOVES:
            self._retries.append(pb.FailedTry(endpoint=endpoint, reason=reason))

    def begun(self, started: inference.Started, choice: Choice | None) -> None:
        """Its first token is there. `started` is what its client gets, `choice` why its endpoint was chosen."""
        self._choice = choice
        self._queued_s, self._loading_s = started.queued_ms / 1000, started.loading_ms / 1000
        self._overhead_s = started.overhead_ms / 1000
        self._first_token_s = self._clock() - self._since_s
        self._started = started
        self._device = DEVICES.get(started.device, DeviceKind.UNKNOWN)

    def moved(self, move: inference.Failover, *, after_tokens: int) -> None:
        """Its stream goes on at another endpoint."""
        if len(self._moves) < _MOST_MOVES:
            at_ms = 1000 * (self._clock() - self._since_s)
            told = pb.Move(
                from_endpoint=move.from_endpoint, to_endpoint=move.to_endpoint, reason=move.reason, at_ms=at_ms
            )
            told.after_tokens = after_tokens
            self._moves.append(told)

    def ended(self, ends: Iterable[inference.Finished]) -> None:
        """The ends of its choices, as far as they came."""
        self._ends = list(ends)

    def used(self, usage: inference.Usage) -> None:
        """The tokens of a call that generates none."""
        self._usage = usage

    def receipt(self, *, call: str, model: str, alias: str, status: str, error: str) -> pb.Receipt:
        """All of it, but for the sampling."""
        receipt = pb.Receipt(
            request_id=self.request_id[:_LONGEST],
            call=call,
            model=model[:_LONGEST],
            alias=alias[:_LONGEST],
            status=status,
            error=error[:_LONGEST],
            queued_ms=1000 * self._queued_s,
            loading_ms=1000 * self._loading_s,
            overhead_ms=1000 * self._overhead_s,
            first_token_ms=1000 * self._first_token_s,
            total_ms=1000 * (self._clock() - self._since_s),
            failovers=self._moves,
            retries=self._retries,
        )
        receipt.arrived_at.FromNanoseconds(int(self._arrived_s * 1e9))
        self._tell_choice(receipt)
        self._tell_start(receipt)
        self._tell_ends(receipt)
        return receipt

    def _tell_choice(self, receipt: pb.Receipt) -> None:
        choice = self._choice
        if choice is None:
            return
        receipt.endpoint, receipt.device, receipt.reason = choice.address, self._device, choice.reason
        receipt.score, receipt.seconds = choice.score, choice.seconds
        for each in choice.runners_up:
            receipt.runners_up.add(endpoint=each.endpoint, score=each.score, seconds=each.seconds)

    def _tell_start(self, receipt: pb.Receipt) -> None:
        started, ignored = self._started, [*self.ignored]
        if started is not None:
            receipt.model = started.model[:_LONGEST]
            receipt.seed, receipt.prompt_tokens = started.seed, started.prompt_tokens
            ignored.extend(started.ignored_fields)
        if ignored:
            receipt.ignored_fields.extend(path[:_LONGEST] for path in [*dict.fromkeys(ignored)][:_MOST_FIELDS])

    def _tell_ends(self, receipt: pb.Receipt) -> None:
        for end in self._ends:
            usage, timings = end.usage, end.timings
            receipt.completion_tokens += usage.completion_tokens
            receipt.cached_tokens += usage.cached_tokens
            receipt.prefill_ms = max(receipt.prefill_ms, timings.prompt_ms)
            receipt.decode_ms = max(receipt.decode_ms, timings.completion_ms)
            receipt.finish_reasons.append(_FINISH_REASONS.get(end.finish_reason, "stop"))
        if self._usage is not None:
            receipt.prompt_tokens = self._usage.prompt_tokens
            receipt.cached_tokens = self._usage.cached_tokens

    @property
    def in_use(self) -> inference.GenerationDefaults | None:
        """How its output is sampled; None if it generates none."""
        started = self._started
        return started.in_use if started is not None and started.HasField("in_use") else None
