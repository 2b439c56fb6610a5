"""The sections and fields of mesh.yaml, with their ranges and defaults.

Everything has a default, so an empty file means the same as no file.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, field_validator, model_validator

PreferredDevice = Literal["gpu", "cpu"]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightsSection(_Section):
    """`weights`: how much each scorer counts. A scorer that is left out keeps its default weight."""

    least_seconds_to_drain: Weight | None = None
    kv_headroom: Weight | None = None
    prefix_affinity: Weight | None = None
    session_affinity: Weight | None = None
    device_preference: Weight | None = None
    size_rule: Weight | None = None
    least_cost: Weight | None = None

    def given(self) -> dict[str, float]:
        """Scorer → weight, for the weights that the file gives."""
        return self.model_dump(exclude_none=True)


class CostsSection(_Section):
    """`cost_per_token`: cost of a token, in any one unit; whatever is left out costs nothing."""

    devices: Mapping[Literal["cpu", "xpu", "cuda"], Cost] = Field(default_factory=dict)
    endpoints: Mapping[str, Cost] = Field(default_factory=dict)
    """By address (host:port); takes precedence over the device's cost."""


class SizeRuleSection(_Section):
    """One of `size_rules`: models below a size prefer a device. The first rule that matches decides."""

    prefer: PreferredDevice
    under: ByteSize | None = None
    """Size of the weights, in bytes or as "8GB" (10⁹ bytes each); matches every size if left out."""


class AliasTargetSection(_Section):
    """One of the models that an alias in `aliases` stands for."""

    model: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """The model gets this weight's share of the alias's requests."""


class OverflowSection(_Section):
    """`overflow`: when requests for models that prefer the GPU go to the CPU."""

    enabled: bool = True
    start_s: Seconds = 4.0
    """Overflow starts when the least loaded accelerator needs this many seconds to drain."""
    stop_s: Seconds = 2.0
    """Overflow stops when it needs no longer than this, in seconds."""
    hold_s: Seconds = 2.0
    """Shortest time between two switches, in seconds."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.stop_s >= self.start_s:
            raise ValueError(f"stop_s ({self.stop_s:g}) must be less than start_s ({self.start_s:g})")
        return self


class AdmissionSection(_Section):
    """`admission`: how many requests may wait for one model in the router, and how long."""

    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Requests that may wait; further ones are refused."""
    max_wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Longest wait of a request, in seconds, besides its own deadline; no limit if left out."""


class ModelSection(_Section):
    """One of `models`: the rules of one model. Whatever is left out is as for all models."""

    prefer: PreferredDevice | None = None
    """The device that the model prefers, whatever its size."""
    pinned: bool = False
    """If true, the model stays once loaded: it is unloaded neither to make room nor for being idle."""
    keep_alive_s: Seconds | None = None
    """Idle seconds after which the model is unloaded; 0 means never. The worker's own setting if left out."""
    weights: WeightsSection = WeightsSection()
    """Override those of the top-level `weights`."""
    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


def _as_targets(value: object) -> object:
    return ({"model": value},) if isinstance(value, str) else value


AliasTargets = Annotated[tuple[AliasTargetSection, ...], BeforeValidator(_as_targets), Field(min_length=1)]


class MeshConfig(_Section):
    """The whole of mesh.yaml."""

    weights: WeightsSection = WeightsSection()
    cost_per_token: CostsSection = CostsSection()
    models: Mapping[str, ModelSection] = Field(default_factory=dict)
    size_rules: tuple[SizeRuleSection, ...] = (
        SizeRuleSection(prefer="gpu", under=ByteSize(8_000_000_000)),
        SizeRuleSection(prefer="cpu"),
    )
    aliases: Mapping[Annotated[str, Field(min_length=1)], AliasTargets] = Field(default_factory=dict)
    """Alias → the model it stands for, or several with weights. An alias hides a model of the same name."""
    overflow: OverflowSection = OverflowSection()
    admission: AdmissionSection = AdmissionSection()

    @field_validator("aliases")
    @classmethod
    def _check_aliases(
        cls, aliases: Mapping[str, tuple[AliasTargetSection, ...]]
    ) -> Mapping[str, tuple[AliasTargetSection, ...]]:
        for name, targets in aliases.items():
            for target in targets:
                if target.model in aliases:
                    raise ValueError(
                        f"{name} stands for {target.model}, which is itself an alias; name a model instead"
                    )
        return aliases
