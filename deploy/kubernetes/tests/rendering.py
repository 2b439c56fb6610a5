"""What kustomize makes of the overlays, and how to find one's way in it."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

REPOSITORY = Path(__file__).resolve().parents[3]
KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
WORKERS = {"cpu": {"cpu"}, "xpu": {"xpu"}, "nvidia": {"cuda"}, "mixed": {"cpu", "xpu"}}
"""Overlay → the devices of its workers."""
Manifest = dict[str, Any]


@cache
def _render(folder: Path) -> str:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run([kubectl, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.dumps(list(yaml.safe_load_all(done.stdout)))  # reads faster


def rendered(folder: Path) -> list[Manifest]:
    """The objects that `kubectl apply -k FOLDER` would make."""
    found: list[Manifest] = json.loads(_render(folder))
    return found


def overlay(name: str) -> list[Manifest]:
    """The objects of an overlay."""
    return rendered(KUBERNETES / "overlays" / name)


def of_kind(objects: list[Manifest], *kinds: str) -> list[Manifest]:
    """Those of these kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The only one of this kind and name."""
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"] == name)
    return found


def controllers(objects: list[Manifest]) -> list[Manifest]:
    """What makes pods."""
    return of_kind(objects, "Deployment", "StatefulSet")


def pod_of(controller: Manifest) -> Manifest:
    """The pod's spec."""
    spec: Manifest = controller["spec"]["template"]["spec"]
    return spec


def labels_of(controller: Manifest) -> dict[str, str]:
    """The pod's labels."""
    labels: dict[str, str] = controller["spec"]["template"]["metadata"]["labels"]
    return labels


def containers_of(controller: Manifest) -> list[Manifest]:
    """All of the pod's containers."""
    pod = pod_of(controller)
    return [*pod.get("initContainers", ()), *pod["containers"]]


def variables(objects: list[Manifest], container: Manifest) -> dict[str, str]:
    """The container's environment, with what ConfigMaps say."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= named(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for each in container.get("env", ()):
        key = each["valueFrom"]["configMapKeyRef"]
        found[each["name"]] = named(objects, "ConfigMap", key["name"])["data"][key["key"]]
    return found
