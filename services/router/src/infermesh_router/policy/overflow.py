"""Owns whether requests that prefer the GPU may spill to the CPU: a state with hysteresis. Pure: told the time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OverflowRule:
    """When the accelerators overflow."""

    enabled: bool = True
    start_s: float = 4.0
    """Seconds to drain of the quickest accelerator from which on requests spill."""
    stop_s: float = 2.0
    """Seconds to drain up to which they no longer do."""
    hold_s: float = 2.0
    """Shortest time between two changes of mind."""


class Overflow:
    """One model's state. `update` says whether its requests may spill."""

    def __init__(self, rule: OverflowRule) -> None:
        self._rule = rule
        self._open = False
        self._changed_s = float("-inf")

    def update(self, drain_s: float, now_s: float) -> bool:
        """`drain_s`: of the quickest accelerator that can take the model's requests, infinite when none can."""
        rule = self._rule
        if not rule.enabled:
            return False
        turns = drain_s <= rule.stop_s if self._open else drain_s >= rule.start_s
        if turns and now_s - self._changed_s >= rule.hold_s:
            self._open = not self._open
            self._changed_s = now_s
        return self._open
