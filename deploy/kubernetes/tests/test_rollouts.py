"""A rollout replaces the next pod once the last one can be found by name, and users say how many pods there are."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from deploy.kubernetes.tests.rendering import (
    REPOSITORY,
    WORKERS,
    controllers,
    named,
    of_kind,
    overlay,
    pod_of,
    rendered,
    variables,
)
from infermesh_router.config.settings import RouterSettings

CACHED_S = 30
"""How long CoreDNS, as clusters configure it, goes on answering what it knew."""


@pytest.mark.parametrize("name", WORKERS)
def test_a_pod_is_available_once_no_answer_about_its_name_is_older(name: str) -> None:
    """A headless Service is a name alone: who asks for it may be told only of pods that are gone."""
    objects = overlay(name)
    (router,) = pod_of(named(objects, "Deployment", "router"))["containers"]
    default_s = RouterSettings.model_fields["resolve_interval_s"].default
    resolve_s = float(variables(objects, router).get("INFERMESH_RESOLVE_INTERVAL_S", default_s))
    by_name = {each["metadata"]["name"] for each in of_kind(objects, "Service") if "clusterIP" in each["spec"]}
    assert by_name == {"router", *(f"worker-{device}" for device in WORKERS[name])}
    for controller in controllers(objects):
        ready_s = controller["spec"].get("minReadySeconds", 0)
        assert (ready_s > CACHED_S + resolve_s) == (controller["metadata"]["name"] in by_name)


def test_the_numbers_in_a_kustomization_are_those_that_are_applied(tmp_path: Path) -> None:
    """As the document's Scaling says it."""
    scaling = (REPOSITORY / "docs" / "kubernetes.md").read_text().partition("## Scaling")[2]
    (example, *_) = re.findall(r"```yaml\n(.*?)```", scaling, re.DOTALL)
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    written = tmp_path / "mesh" / "kustomization.yaml"
    written.parent.mkdir()
    written.write_text(f"resources: [../deploy/kubernetes/overlays/cpu]\n{example}")
    numbers = {each["metadata"]["name"]: each["spec"]["replicas"] for each in controllers(rendered(written.parent))}
    wanted = {each["name"]: each["count"] for each in yaml.safe_load(example)["replicas"]}
    assert wanted.keys() == {"worker-cpu", "router"}
    assert numbers == {"envoy": 2, **wanted}
