"""Translates mesh.yaml into the rules of each room, so that no room needs to know mesh.yaml."""

from collections.abc import Mapping
from dataclasses import replace

from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.config.mesh_config import MeshConfig, ModelSection
from infermesh_router.placement.placer import Retention
from infermesh_router.policy.choice import ChoiceProfile
from infermesh_router.policy.chooser import ChooserRules
from infermesh_router.policy.overflow import OverflowRule
from infermesh_router.policy.preference import SizeRule
from infermesh_router.policy.scorers import COST_WEIGHT, SCORERS, Scorer, cost_scorer
from infermesh_router.requests.aliases import AliasTarget

_NO_SECTION = ModelSection()


def chooser_rules(config: MeshConfig) -> ChooserRules:
    """The rules by which endpoints are chosen."""
    scorers = SCORERS
    costs = config.cost_per_token
    if costs.devices or costs.endpoints:
        scorers += (
            Scorer(
                "least_cost",
                COST_WEIGHT,
                cost_scorer({str(kind): cost for kind, cost in costs.devices.items()}, costs.endpoints),
            ),
        )
    weights = config.weights.given()
    own = {name: rule.weights.given() for name, rule in config.models.items()}
    return ChooserRules(
        default=ChoiceProfile(scorers=_weigh(scorers, weights)),
        by_model={name: ChoiceProfile(scorers=_weigh(scorers, weights | w)) for name, w in own.items() if w},
        devices={name: rule.prefer for name, rule in config.models.items() if rule.prefer},
        size_rules=tuple(SizeRule(rule.prefer, rule.under) for rule in config.size_rules),
        overflow=OverflowRule(**config.overflow.model_dump()),
    )


def admission_limits(config: MeshConfig, model: str) -> AdmissionLimits:
    """How many requests may wait for the model, and how long."""
    own, common = config.models.get(model, _NO_SECTION), config.admission
    return AdmissionLimits(
        max_waiting=common.max_waiting if own.max_waiting is None else own.max_waiting,
        max_wait_s=common.max_wait_s if own.max_wait_s is None else own.max_wait_s,
    )


def share_of(limits: AdmissionLimits, routers: int) -> AdmissionLimits:
    """One router's share of the limits, rounded up; 0 stays 0."""
    return limits if routers == 1 else replace(limits, max_waiting=-(-limits.max_waiting // routers))


def retention(config: MeshConfig, model: str) -> Retention:
    """How long the model stays on an endpoint that loaded it for a request."""
    own = config.models.get(model, _NO_SECTION)
    return Retention(pinned=own.pinned, keep_alive_s=own.keep_alive_s)


def alias_targets(config: MeshConfig) -> dict[str, tuple[AliasTarget, ...]]:
    """Alias → the models that it stands for."""
    return {
        alias: tuple(AliasTarget(target.model, target.weight) for target in targets)
        for alias, targets in config.aliases.items()
    }


def _weigh(scorers: tuple[Scorer, ...], weights: Mapping[str, float]) -> tuple[Scorer, ...]:
    return tuple(replace(scorer, weight=weights.get(scorer.name, scorer.weight)) for scorer in scorers)
