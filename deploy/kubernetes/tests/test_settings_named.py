"""What manifests and compose.yaml set are settings that exist, with values that start, and names that there are."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from deploy.kubernetes.tests.rendering import (
    REPOSITORY,
    WORKERS,
    Manifest,
    controllers,
    named,
    of_kind,
    overlay,
    pod_of,
    variables,
)
from infermesh_router.config.settings import RouterSettings
from infermesh_runtime.settings import ServiceSettings, read
from infermesh_worker_cpu.settings import WorkerCpuSettings

OVERLAYS = pytest.mark.parametrize("name", WORKERS)


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[ServiceSettings]]:
    """The settings of each image's process. worker-xpu's need no torch, and need not be installed."""
    monkeypatch.syspath_prepend(REPOSITORY / "services" / "worker-xpu" / "src")
    from infermesh_worker_xpu.settings import WorkerXpuSettings

    gpu = dict.fromkeys(("worker-xpu", "worker-cuda"), WorkerXpuSettings)
    return {"router": RouterSettings, "worker-cpu": WorkerCpuSettings, "worker-cpu-1": WorkerCpuSettings, **gpu}


def start(kind: type[ServiceSettings], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads the settings as the process does, which refuses variables that it does not know."""
    for each in [each for each in os.environ if each.startswith("INFERMESH_")]:
        monkeypatch.delenv(each)
    for each, value in environment.items():
        monkeypatch.setenv(each, value)
    return read(kind)


@OVERLAYS
def test_processes_start_with_what_manifests_set(
    name: str, settings_of: dict[str, type[ServiceSettings]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret\n")
    objects = overlay(name)
    for controller in controllers(objects):
        own = controller["metadata"]["name"]
        (container,) = pod_of(controller)["containers"]
        if own == "envoy":
            assert "env" not in container
            continue
        environment = variables(objects, container)
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert environment["INFERMESH_MESH_TOKEN_FILE"] == f"{mounted['mesh']}/token"
        environment["INFERMESH_MESH_TOKEN_FILE"] = str(tmp_path / "token")
        settings = start(settings_of[own], {**environment, "INFERMESH_LISTEN": "0.0.0.0:1"}, monkeypatch)
        assert settings.token() == "secret"
        if own != "router":
            assert getattr(settings, "device", "cpu") == own.removeprefix("worker-")


@OVERLAYS
def test_routers_look_where_workers_and_routers_are(name: str) -> None:
    objects = overlay(name)
    (container,) = pod_of(named(objects, "Deployment", "router"))["containers"]
    environment = variables(objects, container)
    services = {
        f"{each['metadata']['name']}:{port['port']}": each
        for each in of_kind(objects, "Service")
        for port in each["spec"]["ports"]
    }
    targets = {each.removeprefix("dns:///") for each in environment["INFERMESH_WORKERS"].split(",")}
    workers = {f"worker-{device}:8083" for device in WORKERS[name]}
    assert workers == targets & services.keys()
    for worker in workers:
        spec = services[worker]["spec"]
        assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    sibling = environment["INFERMESH_SIBLINGS"].removeprefix("dns:///")
    assert services[sibling]["metadata"]["name"] == "router"
    assert services[sibling]["spec"]["clusterIP"] == "None"
    assert environment["INFERMESH_ADMIN_LISTEN"].split(":")[1] == sibling.split(":")[1]
    dockerfile = (REPOSITORY / "deploy" / "docker" / "envoy.Dockerfile").read_text()
    assert services[re.findall(r"^ARG ROUTER=(.*)$", dockerfile, re.MULTILINE)[0]]["metadata"]["name"] == "router"


def test_all_workers_that_routers_look_for_are_in_some_overlay() -> None:
    (container,) = pod_of(named(overlay("cpu"), "Deployment", "router"))["containers"]
    targets = variables(overlay("cpu"), container)["INFERMESH_WORKERS"]
    assert targets == ",".join(f"dns:///worker-{device}:8083" for device in ("cpu", "xpu", "cuda"))
    assert set().union(*WORKERS.values()) == {"cpu", "xpu", "cuda"}


def test_compose_sets_what_there_is(settings_of: dict[str, type[ServiceSettings]]) -> None:
    services: Manifest = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    assert settings_of.keys() <= services.keys()
    for name, kind in settings_of.items():
        known = {f"INFERMESH_{field.upper()}" for field in kind.model_fields}
        assert set(services[name]["environment"]) <= known, name
    siblings = services["router"]["environment"]["INFERMESH_SIBLINGS"].removeprefix("dns:///")
    assert siblings.split(":")[0] in services
    assert services["router"]["environment"]["INFERMESH_ADMIN_LISTEN"].split(":")[1] == siblings.split(":")[1]
