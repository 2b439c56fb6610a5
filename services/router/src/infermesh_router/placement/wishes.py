"""Remembers which models are to stay loaded and where, and says which of them a restarted or lost endpoint lacks. Pure.

A wish begins when an operator loads a model, or when an endpoint reports one that is pinned. It ends when the endpoint
reports, in the same life (`started_at`), that the model is no longer there: somebody unloaded it, its keep-alive time
ran out, or it gave way to another model.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb

MOVE_AFTER_S = 30.0
"""How long an endpoint may be away before a model that may be anywhere is loaded on another one, in seconds."""
FORGET_AFTER_S = 3600.0
"""How long an endpoint may be away before what was wanted of it alone is forgotten, in seconds."""


@dataclass(slots=True, eq=False, kw_only=True)
class Wish:
    """A model that is to stay loaded on an endpoint."""

    model: str
    address: str
    """The endpoint that has it, or had it last."""
    anywhere: bool = False
    """Whether any endpoint on `device` will do, because a router chose this one; otherwise only this one."""
    device: str = ""
    """As in LoadModelRequest."""
    pinned: bool = False
    keep_alive_s: float = 0.0
    """0: it stays until its memory is needed."""
    life: tuple[int, int] = (0, 0)
    """When the endpoint was started that last had the model ready: seconds since the epoch, and ns."""
    missing_since_s: float | None = None
    """Since when its endpoint is away or lacks it; None while it is there."""
    not_before_s: float = 0.0
    """Loading it failed, and is not tried again before this time."""
    failures: int = 0
    """Failed loads in a row."""

    def request(self) -> admin_pb2.LoadModelRequest:
        """The request that makes an endpoint load it as before."""
        return admin_pb2.LoadModelRequest(model=self.model, pinned=self.pinned, keep_alive_s=self.keep_alive_s)

    def missing_s(self, now_s: float) -> float:
        """For how long it has been missing."""
        return 0.0 if self.missing_since_s is None else now_s - self.missing_since_s


@dataclass(frozen=True, slots=True, eq=False)
class Due:
    """A wish whose model must be loaded now."""

    wish: Wish
    elsewhere: bool
    """On any endpoint, because its own has been away too long."""


@dataclass(slots=True)
class Wishes:
    """All wishes, by endpoint and model. Times are seconds of one monotonic clock."""

    _wishes: dict[str, dict[str, Wish]] = field(default_factory=dict)
    """Address → model → wish."""

    def __contains__(self, wish: Wish) -> bool:
        return self._of(wish.address).get(wish.model) is wish

    def __iter__(self) -> Iterator[Wish]:
        return iter([wish for wishes in self._wishes.values() for wish in wishes.values()])

    @property
    def addresses(self) -> Collection[str]:
        """The endpoints that wishes are about."""
        return self._wishes.keys()

    def want(self, address: str, report: pb.HealthReport, model: str, *, device: str) -> None:
        """Notes that an operator had the router load the model, which the endpoint reports as ready."""
        for status in report.models:
            if status.name == model and _holds(report):
                wish = self._wish(address, model)
                wish.anywhere, wish.device = device != address, device
                _take_over(wish, report, status)

    def end(self, model: str, address: str = "") -> bool:
        """Ends every wish for the model, or only that of one endpoint; returns whether there was one."""
        ended = [wish for wish in self if wish.model == model and address in ("", wish.address)]
        for wish in ended:
            self.drop(wish)
        return bool(ended)

    def drop(self, wish: Wish) -> None:
        """Ends the wish."""
        self._of(wish.address).pop(wish.model, None)
        if not self._of(wish.address):
            self._wishes.pop(wish.address, None)

    def observe(self, address: str, report: pb.HealthReport) -> None:
        """Takes over what a connected endpoint reports of its models."""
        if not _holds(report):
            return
        reported = {status.name: status for status in report.models}
        for name, status in reported.items():
            wish = self._of(address).get(name)
            if status.state != pb.ENDPOINT_STATE_READY:
                if wish is not None:
                    wish.missing_since_s = None  # it is being loaded
            elif wish is not None:
                _take_over(wish, report, status)
            elif status.pinned and not status.home:
                _take_over(self._wish(address, name), report, status)
        for wish in list(self._of(address).values()):
            if wish.model not in reported and wish.life == _life(report):
                self.drop(wish)

    def due(self, now_s: float, models_of: Mapping[str, Collection[str]], usable: Collection[str]) -> list[Due]:
        """The wishes to fulfil now, pinned models first.

        `models_of`: connected endpoint → models that are loaded or loading there. `usable`: endpoints that can load
        models.
        """
        found = []
        for wish in self:
            if wish.model in models_of.get(wish.address, ()):
                wish.missing_since_s = None
            elif wish.missing_since_s is None:
                wish.missing_since_s = now_s
            if _is_over(wish, now_s):
                self.drop(wish)
            elif wish.missing_since_s is not None and now_s >= wish.not_before_s:
                elsewhere = wish.anywhere and wish.missing_s(now_s) >= MOVE_AFTER_S
                if wish.address in usable:
                    found.append(Due(wish, elsewhere=False))
                elif elsewhere:
                    found.append(Due(wish, elsewhere=True))
        return sorted(found, key=lambda due: not due.wish.pinned)

    def next_s(self, now_s: float) -> float | None:
        """Time until something may become due without any change of an endpoint; None: nothing will."""
        times = [
            at_s - now_s
            for wish in self
            if wish.missing_since_s is not None
            for at_s in (
                wish.not_before_s,
                wish.missing_since_s + MOVE_AFTER_S,
                wish.missing_since_s + FORGET_AFTER_S,
                wish.missing_since_s + wish.keep_alive_s,
            )
            if at_s > now_s
        ]
        return min(times, default=None)

    def _of(self, address: str) -> dict[str, Wish]:
        return self._wishes.get(address, {})

    def _wish(self, address: str, model: str) -> Wish:
        return self._wishes.setdefault(address, {}).setdefault(model, Wish(model=model, address=address))


def _is_over(wish: Wish, now_s: float) -> bool:
    missing_s = wish.missing_s(now_s)
    expired = not wish.pinned and 0 < wish.keep_alive_s <= missing_s
    return expired or (not wish.anywhere and missing_s >= FORGET_AFTER_S)


def _holds(report: pb.HealthReport) -> bool:
    """Whether the endpoint holds models itself. A router, which names no device, keeps its own wishes."""
    return report.device.kind != pb.DEVICE_KIND_UNSPECIFIED


def _take_over(wish: Wish, report: pb.HealthReport, status: pb.ModelStatus) -> None:
    keep_alive_s = status.keep_alive_s if math.isfinite(status.keep_alive_s) else 0.0
    wish.pinned, wish.keep_alive_s, wish.life = status.pinned, max(0.0, keep_alive_s), _life(report)
    wish.missing_since_s, wish.not_before_s, wish.failures = None, 0.0, 0


def _life(report: pb.HealthReport) -> tuple[int, int]:
    return report.started_at.seconds, report.started_at.nanos
