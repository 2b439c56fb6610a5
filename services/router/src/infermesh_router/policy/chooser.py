"""Owns what a router remembers for its choices: prefixes sent, overflow, preferences. Choosing is the policy's."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from infermesh_router.policy.choice import DEFAULT_RULES, Choice, Placement, Rules, choose, place
from infermesh_router.policy.overflow import Overflow, OverflowRule
from infermesh_router.policy.preference import DEFAULT_SIZE_RULES, Preference, SizeRule, prefer
from infermesh_router.policy.prefix_index import PrefixIndex
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.policy.table import GPU_BITS, Table, as_table

LOOK_EVERY_S = 0.01
"""Time for which an answer about overflow holds: reports are rarer than choices may be."""
_MODELS_KEPT = 256
"""Models whose preference is kept; a client may name as many as it likes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRules:
    """What choices are made by, as mesh.yaml sets it."""

    default: Rules = DEFAULT_RULES
    by_model: dict[str, Rules] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    """Model → the device that its own rule prefers."""
    size_rules: Sequence[SizeRule] = DEFAULT_SIZE_RULES
    overflow: OverflowRule = field(default_factory=OverflowRule)


class Chooser:
    """Chooses endpoints, and places models. A call is `policy.choose` with all that the router knows."""

    def __init__(
        self,
        rules: ChoiceRules | None = None,
        *,
        prefixes: PrefixIndex | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules or ChoiceRules()
        self.prefixes = prefixes or PrefixIndex()
        self._clock = clock
        self._overflows: dict[str, tuple[Overflow, bool, float]] = {}
        """By model: its state, whether it spills, and when that was looked at."""
        self._preferences: dict[str, Preference] = {}
        self._known: tuple[Table, int] | None = None

    @property
    def rules(self) -> ChoiceRules:
        """What choices are made by. Setting them begins with no overflow."""
        return self._rules

    @rules.setter
    def rules(self, rules: ChoiceRules) -> None:
        self._rules = rules
        self._overflows.clear()
        self._known = None

    def __call__(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice:
        """The endpoint for a request, which is taken to be sent there. Raises as `policy.choose`."""
        table = as_table(endpoints)
        known = self._complete(table, wanted)
        choice = choose(table, known, turn=turn, rules=self._rules.by_model.get(wanted.model, self._rules.default))
        if wanted.blocks:
            endpoint = table.at(choice.address)
            self.prefixes.note(wanted.blocks, choice.address, endpoint.kv_cache_tokens)
        return choice

    def place(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> Placement:
        """Where to load the request's model. Raises as `policy.place`."""
        preference = self._prefer(as_table(endpoints), wanted)
        return place(
            endpoints, replace(wanted, preferred_device=preference.device, preference_reason=preference.reason)
        )

    def _complete(self, table: Table, wanted: Wanted) -> Wanted:
        """The request with what is known for it."""
        preference = self._prefer(table, wanted)
        cached = self.prefixes.find(wanted.blocks) if wanted.blocks else {}
        overflowing = preference.device == "gpu" and self._overflow(table, wanted)
        if not (preference.device or cached):
            return wanted
        return replace(
            wanted,
            cached_tokens=cached,
            preferred_device=preference.device,
            preference_reason=preference.reason,
            overflowing=overflowing,
        )

    def _prefer(self, table: Table, wanted: Wanted) -> Preference:
        """What its model prefers, where the request leaves the device open; kept until devices or models change."""
        if wanted.device not in ("", "auto") or not wanted.model:
            return Preference()
        if self._known is None or self._known != (table, table.structure_version):
            self._preferences.clear()
            self._known = (table, table.structure_version)
        preference = self._preferences.get(wanted.model)
        if preference is None:
            own = self._rules.devices.get(wanted.model, "")
            preference = prefer(wanted.model, table, own=own, size_rules=self._rules.size_rules)
            if len(self._preferences) >= _MODELS_KEPT:
                self._preferences.clear()
            self._preferences[wanted.model] = preference
        return preference

    def _overflow(self, table: Table, wanted: Wanted) -> bool:
        now_s = self._clock()
        overflow, spills, looked_s = self._overflows.get(wanted.model) or (Overflow(self._rules.overflow), False, -1.0)
        if 0 <= now_s - looked_s < LOOK_EVERY_S:
            return spills
        accelerators = table.ready(wanted.model) & table.usable & table.on_device(GPU_BITS)
        drain_s = float(table.drain_s[accelerators].min(initial=float("inf")))
        spills = overflow.update(drain_s, now_s)
        self._overflows[wanted.model] = overflow, spills, now_s
        return spills
