"""Decides when requests that prefer the GPU may go to the CPU instead: a switch with hysteresis."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OverflowRule:
    """When requests overflow from the accelerators to the CPU."""

    enabled: bool = True
    start_s: float = 4.0
    """Overflow starts when the least loaded accelerator needs this long to drain."""
    stop_s: float = 2.0
    """Overflow stops when it needs no longer than this."""
    hold_s: float = 2.0
    """Shortest time between two switches."""


class Overflow:
    """The switch of one model. `update` says whether its requests may go to the CPU."""

    def __init__(self, rule: OverflowRule) -> None:
        self._rule = rule
        self._open = False
        self._changed_s = float("-inf")

    def update(self, drain_s: float, now_s: float) -> bool:
        """`drain_s` is the least of the accelerators that can take the model's requests, infinite if none can."""
        rule = self._rule
        if not rule.enabled:
            return False
        turns = drain_s <= rule.stop_s if self._open else drain_s >= rule.start_s
        if turns and now_s - self._changed_s >= rule.hold_s:
            self._open = not self._open
            self._changed_s = now_s
        return self._open
