"""Tracks one endpoint: its last report, the work sent to it since, and whether it is connected."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.breaker import Breaker, BreakerOptions, BreakerState
from infermesh_router.fleet.frames.frame_link import FrameLink
from infermesh_router.fleet.frames.turns import Turns
from infermesh_router.fleet.reports.model_speeds import ModelSpeeds
from infermesh_router.fleet.reports.report import (
    Rates,
    bound_figures,
    context_lengths,
    rates_of,
    read_report,
    ready_models,
)
from infermesh_router.fleet.reports.sent_work import Lease, SentWork
from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, EndpointState
from infermesh_runtime.background.tasks import TaskSupervisor

_log = logging.getLogger(__name__)
_TIMER = "endpoint timer"

SETTLE_S = 0.02
"""Work sent less than this before a report arrived is probably not in it: both were on their way."""
RATE_HALF_LIFE_S = 60.0
"""Half-life of a peak of a measured rate."""

MOST_FULL_S = 1.0
"""How long an endpoint that sent a request back counts as full for its model, if it reports nothing sooner."""


class Endpoint:
    """One endpoint.

    `acquire` and `release` come in pairs; `note_report`, `note_loss` and `note_error` tell it what the router learnt.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        *,
        clock: Callable[[], float],
        notify: Callable[[], None],
        notify_load: Callable[[], None] | None = None,
        breaker: BreakerOptions | None = None,
        tasks: TaskSupervisor | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`notify` is told of each change; of those that only our own requests make, `notify_load` if it is given.

        `turns`: those of calls in frames; None: it is sent none.
        """
        self.address = address
        self.channel = channel
        self.connected = False
        self.last_report: pb.HealthReport | None = None
        self.last_error = ""
        self._clock = clock
        self._notify = notify
        self._notify_load = notify_load or notify
        self._tasks = tasks or TaskSupervisor()
        self.frames = FrameLink(channel, address=address, tasks=self._tasks, turns=turns) if turns else None
        self.breaker = Breaker(breaker, clock=clock, on_change=self._breaker_changed)
        self._breaker_state = BreakerState.CLOSED
        self._sent = SentWork()
        self._full: dict[str, float] = {}
        """Models of which it sent a request back since its last report, and when."""
        self._context_lengths: Mapping[str, int] = {}
        self._speeds = ModelSpeeds()
        self._reported_s = 0.0
        self._reported = EndpointSnapshot(address=address, state=EndpointState.UNKNOWN, device=DeviceKind.UNKNOWN)
        self._snapshot: EndpointSnapshot | None = None

    @property
    def in_flight(self) -> int:
        """Requests that this router has running on it."""
        return len(self._sent)

    @property
    def snapshot(self) -> EndpointSnapshot:
        """What the router knows now; the same object until something changes."""
        if self._snapshot is None:
            self._snapshot = self._make_snapshot()
        return self._snapshot

    async def close(self) -> None:
        """Closes its connection, which cancels the calls that still run on it."""
        if self.frames is not None:
            await self.frames.close()
        await self.channel.close()

    def context_length(self, model: str) -> int:
        """Longest prompt and output of the model together, in tokens; 0 if unknown."""
        return self._context_lengths.get(model, 0)

    def acquire(self, model: str, *, prompt_tokens: int, sequences: int) -> Lease:
        """Credits work that is being sent, until a report arrives that must contain it."""
        lease = Lease(self._model_of(model), prompt_tokens, sequences, self._clock())
        self._sent.add(lease)
        self._change_load()
        return lease

    def release(self, lease: Lease) -> None:
        """Ends the credit: the work ended, well or not. Releasing twice is safe."""
        if self._sent.remove(lease, self._clock()):
            self._change_load()

    def note_report(self, report: pb.HealthReport) -> None:
        """Takes over a health report that has arrived, after cutting its figures down to what is possible."""
        self._sent.reported(self._clock() - SETTLE_S)
        if not self.connected:
            self.breaker.note_reconnect()
        bound_figures(report)
        self.last_report = report
        speeds = self._speeds.note(report, self._clock())
        self._reported = replace(self._read(report), runtime=report.runtime, request_s=speeds)
        self._context_lengths = context_lengths(report)
        self._full.clear()
        self.connected = True
        self.last_error = ""
        self._change()

    def note_sent_back(self, model: str) -> None:
        """Takes it as full for the model until its next report, or for MOST_FULL_S: it sent a request back."""
        model = self._model_of(model)
        since_s = self._full[model] = self._clock()
        self._tasks.call_later(_TIMER, MOST_FULL_S, partial(self._take_again, model, since_s), about=self.address)
        self._change()

    def note_loss(self, reason: str) -> None:
        """Marks it as not connected: its health stream broke."""
        if not self.connected and self.last_error == reason:
            return
        self.connected = False
        self.last_error = reason
        self._change()

    def note_error(self, reason: str) -> None:
        """Records why a call failed by the endpoint's fault."""
        self.last_error = reason
        self._change()

    def _read(self, report: pb.HealthReport) -> EndpointSnapshot:
        """The report, with the best rates of late: a model with few sequences measures less than it can do."""
        before, now_s = self._reported, self._clock()
        ready = ready_models(report)
        kept = 0.5 ** ((now_s - self._reported_s) / RATE_HALF_LIFE_S)
        self._reported_s = now_s

        def best_rates(model: str, load: pb.Load) -> Rates:
            stays = model in ready and model in before.ready_models if model else ready == before.ready_models
            share, last = (kept if stays else 0.0), before.load_of(model)
            prefill, decode = rates_of(load)
            return max(prefill, last.prefill_tokens_per_s * share), max(decode, last.decode_tokens_per_s * share)

        return read_report(self.address, report, best_rates)

    def _breaker_changed(self, state: BreakerState) -> None:
        if state is not self._breaker_state:
            self._breaker_state = state
            _log.warning("circuit breaker of endpoint %s is %s", self.address, state.value)
        if state is BreakerState.OPEN:  # time alone makes it half-open, which changes the snapshot
            self._wait_until_half_open()
        self._change()

    def _wait_until_half_open(self) -> None:
        """Tells of the change once it has come: a timer may fire a little early by the breaker's clock."""
        left_s = self.breaker.half_open_in_s
        if left_s:
            self._tasks.call_later(_TIMER, left_s, self._wait_until_half_open, about=self.address)
        else:
            self._change()

    def _take_again(self, model: str, since_s: float) -> None:
        if self._full.get(model) == since_s:
            del self._full[model]
            self._change()

    def _change(self) -> None:
        self._snapshot = None
        self._notify()

    def _change_load(self) -> None:
        self._snapshot = None
        self._notify_load()

    def _make_snapshot(self) -> EndpointSnapshot:
        reported, breaker, sent = self._reported, self.breaker, self._sent
        loads = reported.loads
        if loads and (touched := (sent.models | self._full.keys()) & loads.keys()):
            loads = {**loads, **{model: self._with_sent(model, loads[model]) for model in touched}}
        total = reported.total
        return reported.with_load(
            connected=self.connected,
            total=total.with_work(
                total.waiting_tokens + sent.tokens_total,
                max(sent.own_total, total.sequences + sent.unseen.total()),
                "" in self._full,
            ),
            loads=loads,
            full_models=frozenset(self._full),
            in_flight=len(sent),
            breaker_open=not breaker.admits,
            probing=breaker.state is BreakerState.HALF_OPEN,
        )

    def _with_sent(self, model: str, load: ModelLoad) -> ModelLoad:
        """A reported load, with what the router knows better: its own sequences, however late the reports are."""
        sent = self._sent
        sequences = max(sent.own.get(model, 0), load.sequences + sent.unseen.get(model, 0))
        return load.with_work(load.waiting_tokens + sent.tokens.get(model, 0), sequences, model in self._full)

    def _model_of(self, model: str) -> str:
        """The model that a request means: the only one there is, if it names none."""
        return next(iter(self._reported.models)) if not model and len(self._reported.models) == 1 else model
