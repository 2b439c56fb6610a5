"""Chooses endpoints with what the router remembers between requests: prefixes, overflow, device preferences."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from infermesh_router.policy.choice import DEFAULT_PROFILE, Choice, ChoiceProfile, choose
from infermesh_router.policy.overflow import Overflow, OverflowRule
from infermesh_router.policy.placing import Placement, place
from infermesh_router.policy.preference import DEFAULT_SIZE_RULES, Preference, SizeRule, prefer
from infermesh_router.policy.prefix.prefix_index import PrefixIndex
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted, replace_wanted
from infermesh_router.policy.table import GPU_BITS, Table, as_table

LOOK_EVERY_S = 0.01
"""How long an answer about overflow is reused; choices can be much more frequent than reports."""
_MODELS_KEPT = 256
"""Most models whose preference is cached; clients may name any number of models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChooserRules:
    """The rules of a Chooser, as mesh.yaml sets them."""

    default: ChoiceProfile = DEFAULT_PROFILE
    by_model: dict[str, ChoiceProfile] = field(default_factory=dict)
    """Model → its own profile; other models have the default."""
    devices: dict[str, str] = field(default_factory=dict)
    """Model → the device that its own rule prefers."""
    size_rules: Sequence[SizeRule] = DEFAULT_SIZE_RULES
    overflow: OverflowRule = field(default_factory=OverflowRule)


class Chooser:
    """Chooses endpoints and places models. Calling it is `choose` with all that the router knows."""

    def __init__(
        self,
        rules: ChooserRules | None = None,
        *,
        prefixes: PrefixIndex | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules or ChooserRules()
        self.prefixes = prefixes or PrefixIndex()
        self._clock = clock
        self._overflows: dict[str, tuple[Overflow, bool, float]] = {}
        """Model → its switch, whether it overflows, and when we last asked."""
        self._preferences: dict[str, Preference] = {}
        self._known: tuple[Table, int] | None = None

    @property
    def rules(self) -> ChooserRules:
        """The rules in force. Setting them resets overflow to off."""
        return self._rules

    @rules.setter
    def rules(self, rules: ChooserRules) -> None:
        self._rules = rules
        self._overflows.clear()
        self._known = None

    def __call__(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice:
        """The endpoint for a request. Assumes that the request is sent there. Raises what `choose` raises."""
        table = as_table(endpoints)
        known = self._complete(table, wanted)
        choice = choose(table, known, turn=turn, profile=self._rules.by_model.get(wanted.model, self._rules.default))
        if wanted.blocks:
            endpoint = table.at(choice.address)
            self.prefixes.note(wanted.blocks, choice.address, endpoint.load_of(wanted.model).kv_cache_tokens)
        return choice

    def place(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> Placement:
        """Where to load the request's model. Raises what `place` raises."""
        preference = self._prefer(as_table(endpoints), wanted)
        return place(
            endpoints, replace(wanted, preferred_device=preference.device, preference_reason=preference.reason)
        )

    def _complete(self, table: Table, wanted: Wanted) -> Wanted:
        """The request, completed with cached prefixes, preferred device and overflow."""
        preference = self._prefer(table, wanted)
        cached = self.prefixes.find(wanted.blocks) if wanted.blocks else {}
        overflowing = preference.device == "gpu" and self._overflow(table, wanted)
        if not (preference.device or cached):
            return wanted
        return replace_wanted(
            wanted,
            cached_tokens=cached,
            preferred_device=preference.device,
            preference_reason=preference.reason,
            overflowing=overflowing,
        )

    def _prefer(self, table: Table, wanted: Wanted) -> Preference:
        """What its model prefers if the request leaves the device open; cached until devices or models change."""
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
        drain_s = float(table.loads(wanted.model).drain_s[accelerators].min(initial=float("inf")))
        spills = overflow.update(drain_s, now_s)
        self._overflows[wanted.model] = overflow, spills, now_s
        return spills
