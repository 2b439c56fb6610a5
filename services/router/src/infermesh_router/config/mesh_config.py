"""Owns what mesh.yaml may say: its fields, their bounds and defaults. Knows no file and nothing of how it is used.

Everything has a default, so that an empty file and none mean the same.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, field_validator, model_validator

Device = Literal["gpu", "cpu"]
Weight = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Section):
    """How much each scorer counts (`scorers`); one that is left out keeps its default."""

    least_seconds_to_drain: Weight | None = None
    kv_headroom: Weight | None = None
    prefix_affinity: Weight | None = None
    session_affinity: Weight | None = None
    device_preference: Weight | None = None
    size_rule: Weight | None = None
    least_cost: Weight | None = None

    def given(self) -> dict[str, float]:
        """Scorer → weight, of those that are given."""
        return self.model_dump(exclude_none=True)


class Costs(_Section):
    """Cost of a token, in any one unit; what is left out costs nothing."""

    devices: Mapping[Literal["cpu", "xpu", "cuda"], Cost] = Field(default_factory=dict)
    endpoints: Mapping[str, Cost] = Field(default_factory=dict)
    """By address (host:port); goes before the device's."""


class SizeRule(_Section):
    """Models under a size prefer a device; the first rule that holds decides."""

    prefer: Device
    under: ByteSize | None = None
    """Size of the weights, as a number of bytes or "8GB" (10⁹ bytes each); left out: any."""


class Target(_Section):
    """One of the models that an alias stands for."""

    model: Annotated[str, Field(min_length=1)]
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Its share of the requests is its weight over the sum of all."""


class OverflowLimits(_Section):
    """When requests for models that prefer the GPU spill to the CPU."""

    enabled: bool = True
    start_s: Seconds = 4.0
    """Seconds to drain of the quickest accelerator from which on they do."""
    stop_s: Seconds = 2.0
    """Seconds to drain up to which they no longer do."""
    hold_s: Seconds = 2.0
    """Shortest time between two changes."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.stop_s >= self.start_s:
            raise ValueError("stop_s must be less than start_s")
        return self


class Limits(_Section):
    """How much may wait for one model in the router."""

    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] = 1024
    """Requests that wait; one more is shed."""
    max_wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Longest wait of a request, besides its own deadline; left out: no limit."""


class ModelRule(_Section):
    """What holds for one model; what is left out is as for all."""

    prefer: Device | None = None
    """The device that it prefers, whatever its size."""
    pinned: bool = False
    """Once loaded, never unloaded to make room, nor for being idle."""
    keep_alive_s: Seconds | None = None
    """Time after its last request when it is unloaded; 0: never; left out: the worker's own setting."""
    weights: Weights = Weights()
    max_waiting: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    max_wait_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


def _as_targets(value: object) -> object:
    return ({"model": value},) if isinstance(value, str) else value


Targets = Annotated[tuple[Target, ...], BeforeValidator(_as_targets), Field(min_length=1)]


class MeshConfig(_Section):
    """mesh.yaml."""

    weights: Weights = Weights()
    cost_per_token: Costs = Costs()
    models: Mapping[str, ModelRule] = Field(default_factory=dict)
    size_rules: tuple[SizeRule, ...] = (SizeRule(prefer="gpu", under=ByteSize(8_000_000_000)), SizeRule(prefer="cpu"))
    aliases: Mapping[Annotated[str, Field(min_length=1)], Targets] = Field(default_factory=dict)
    """Name → the model it stands for, or several with weights. An alias goes before a model of the same name."""
    overflow: OverflowLimits = OverflowLimits()
    admission: Limits = Limits()

    @field_validator("aliases")
    @classmethod
    def _check_aliases(cls, aliases: Mapping[str, tuple[Target, ...]]) -> Mapping[str, tuple[Target, ...]]:
        for name, targets in aliases.items():
            for target in targets:
                if target.model in aliases:
                    raise ValueError(f"{name} stands for {target.model}, which is an alias itself")
        return aliases
