"""The Kubernetes manifests are valid, and agree with each other, with the images and with compose.yaml."""

import json
import re
import shlex
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from deploy.kubernetes.tests.rendering import (
    KUBERNETES,
    REPOSITORY,
    WORKERS,
    Manifest,
    containers_of,
    controllers,
    labels_of,
    named,
    of_kind,
    overlay,
    pod_of,
    rendered,
    variables,
)
from infermesh_envoy import Address, EnvoyOptions
from infermesh_envoy.browsers import hosts_regex
from infermesh_runtime.rpc.server import LIVE

OVERLAYS = pytest.mark.parametrize("name", WORKERS)
VERSIONS = ("1.29", kubernetes_validate.latest_version())
"""The oldest Kubernetes that the manifests are for, and the newest that there is."""
DEVICES = {"worker-xpu": "gpu.intel.com/i915", "worker-cuda": "nvidia.com/gpu"}


def compose() -> Manifest:
    found: Manifest = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    return found


def test_each_overlay_is_tested() -> None:
    assert {path.parent.name for path in KUBERNETES.glob("overlays/*/kustomization.yaml")} == set(WORKERS)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_it(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the OpenAPI schema of that version; fields that it does not know are errors."""
    utils = kubernetes_validate.utils  # reads its files anew for each object
    monkeypatch.setattr(utils, "schema_contents", cache(utils.schema_contents))
    objects = {json.dumps(each, sort_keys=True) for name in WORKERS for each in overlay(name)}
    assert len(objects) > 20
    for each in objects:
        kubernetes_validate.validate(json.loads(each), version, strict=True)


def test_an_unknown_field_would_be_refused() -> None:
    service = named(overlay("cpu"), "Service", "envoy")
    service["spec"]["prots"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="prots"):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)


@OVERLAYS
def test_it_has_the_workers_of_its_name_in_any_namespace(name: str) -> None:
    objects = overlay(name)
    workers = {f"worker-{device}" for device in WORKERS[name]}
    assert {each["metadata"]["name"] for each in controllers(objects)} == {"envoy", "router"} | workers
    assert not any("namespace" in each["metadata"] for each in objects)
    assert named(objects, "Deployment", "router")["spec"]["replicas"] == 2


@OVERLAYS
def test_images_are_those_of_compose_and_run_here_if_they_are_here(name: str) -> None:
    built = {service["image"] for service in compose().values()}
    for controller in controllers(overlay(name)):
        for container in containers_of(controller):
            assert container["image"] in built
            assert container["imagePullPolicy"] == "IfNotPresent"  # without a tag, the default is to pull
        if controller["metadata"]["name"].startswith("worker"):
            (worker,) = pod_of(controller)["containers"]
            assert worker["image"] == f"infermesh/{controller['metadata']['name']}"


@OVERLAYS
def test_selectors_find_the_pods_that_they_mean(name: str) -> None:
    objects = overlay(name)
    pods = {each["metadata"]["name"]: labels_of(each) for each in controllers(objects)}

    def matched(selector: dict[str, str]) -> set[str]:
        return {pod for pod, labels in pods.items() if selector.items() <= labels.items()}

    for each in controllers(objects):
        assert matched(each["spec"]["selector"]["matchLabels"]) == {each["metadata"]["name"]}
        for spread in pod_of(each).get("topologySpreadConstraints", ()):
            assert matched(spread["labelSelector"]["matchLabels"]) == {each["metadata"]["name"]}
    for each in of_kind(objects, "Service"):
        assert matched(each["spec"]["selector"]) == {each["metadata"]["name"]}
    budgets = of_kind(objects, "PodDisruptionBudget")
    assert {each["metadata"]["name"] for each in budgets} == set(pods)
    for each in budgets:
        assert matched(each["spec"]["selector"]["matchLabels"]) == {each["metadata"]["name"]}
    for each in of_kind(objects, "StatefulSet"):
        assert named(objects, "Service", each["spec"]["serviceName"])["spec"]["clusterIP"] == "None"


@OVERLAYS
def test_only_routers_reach_workers(name: str) -> None:
    objects = overlay(name)
    pods = {each["metadata"]["name"]: labels_of(each) for each in controllers(objects)}
    workers = {pod for pod in pods if pod.startswith("worker")}

    def matched(selector: Manifest) -> set[str]:
        return {pod for pod, labels in pods.items() if selector["matchLabels"].items() <= labels.items()}

    reached: dict[tuple[str, str], set[str] | None] = {}
    for policy in of_kind(objects, "NetworkPolicy"):
        assert policy["spec"]["policyTypes"] == ["Ingress"]
        for pod in matched(policy["spec"]["podSelector"]):
            for rule in policy["spec"]["ingress"]:
                callers = [matched(each["podSelector"]) for each in rule.get("from", ())]
                for port in rule["ports"]:
                    reached[pod, port["port"]] = set().union(*callers) if callers else None
    everybody = None
    assert reached == {
        ("envoy", "http"): everybody,
        ("envoy", "grpc"): everybody,
        ("router", "grpc"): {"envoy"},
        ("router", "admin"): {"router"},
        ("router", "metrics"): everybody,
        **{(worker, "grpc"): {"router"} for worker in workers},
        **{(worker, "metrics"): everybody for worker in workers},
    }


def exposed(image: str) -> set[int]:
    """The ports that the image serves; a router also serves the one of its settings."""
    text = (REPOSITORY / "deploy" / "docker" / f"{image}.Dockerfile").read_text()
    found = {int(port) for line in text.splitlines() if line.startswith("EXPOSE ") for port in line.split()[1:]}
    return found | ({8084} if image == "router" else set())


@OVERLAYS
def test_ports_and_probes_are_those_of_the_images(name: str) -> None:
    objects = overlay(name)
    dockerfiles = {"worker-cuda": "worker-xpu"}
    for controller in controllers(objects):
        own = controller["metadata"]["name"]
        (container,) = pod_of(controller)["containers"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert set(ports.values()) == exposed(dockerfiles.get(own, own))
        for port in named(objects, "Service", own)["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        annotations = controller["spec"]["template"]["metadata"].get("annotations", {})
        assert annotations.get("prometheus.io/port") == (str(ports["metrics"]) if "metrics" in ports else None)
        if own != "envoy":
            probes = {each: container[f"{each}Probe"]["grpc"] for each in ("startup", "liveness", "readiness")}
            alive = {"port": ports["grpc"], "service": LIVE}
            assert probes == {"startup": alive, "liveness": alive, "readiness": {"port": ports["grpc"]}}


def test_envoy_is_probed_as_its_image_says() -> None:
    (container,) = pod_of(named(overlay("cpu"), "Deployment", "envoy"))["containers"]
    text = (REPOSITORY / "deploy" / "docker" / "envoy.Dockerfile").read_text().replace("\\\n", " ")
    (line,) = (line for line in text.splitlines() if "/ready" in line)
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["exec"]["command"] == json.loads(line.partition("CMD ")[2])


@OVERLAYS
def test_pods_are_confined(name: str) -> None:
    for controller in controllers(overlay(name)):
        pod = pod_of(controller)
        assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
        user = pod["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["runAsUser"] > 0
        assert user["seccompProfile"] == {"type": "RuntimeDefault"}
        volumes = {each["name"] for each in pod["volumes"]}
        claims = {each["metadata"]["name"] for each in controller["spec"].get("volumeClaimTemplates", ())}
        for container in containers_of(controller):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            for kind in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][kind])
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes | claims
            device = {limit for limit in container["resources"]["limits"] if "/" in limit}
            own = controller["metadata"]["name"]
            assert device == ({DEVICES[own]} if own in DEVICES and container["name"] == "worker" else set())


def test_user_ids_are_those_of_the_images() -> None:
    for controller in controllers(overlay("mixed")):
        image = controller["metadata"]["name"]
        text = (REPOSITORY / "deploy" / "docker" / f"{image}.Dockerfile").read_text()
        assert re.findall(r"^USER (\d+)$", text, re.MULTILINE) == [
            str(pod_of(controller)["securityContext"]["runAsUser"])
        ]


@OVERLAYS
def test_running_requests_may_end_before_a_pod_is_killed(name: str) -> None:
    objects = overlay(name)
    for controller in controllers(objects):
        pod = pod_of(controller)
        (container,) = pod["containers"]
        if controller["metadata"]["name"] == "envoy":
            drain_s = float(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        else:
            drain_s = float(variables(objects, container)["INFERMESH_DRAIN_S"])
        assert pod["terminationGracePeriodSeconds"] >= drain_s + 20


@OVERLAYS
def test_a_model_is_imported_as_in_compose(name: str) -> None:
    objects = overlay(name)
    models = compose()["models"]
    (command,) = models["command"]
    for controller in of_kind(objects, "StatefulSet"):
        (container,) = pod_of(controller)["initContainers"]
        assert container["command"] == models["entrypoint"]
        assert container["args"] == [command.strip().replace("$$", "$")]
        defaults = {key: re.sub(r"^\$\{.*?:-(.*)\}$", r"\1", value) for key, value in models["environment"].items()}
        assert variables(objects, container) == defaults


def test_the_names_of_services_may_be_used_by_clients() -> None:
    """Envoy refuses other names than it knows."""
    text = (REPOSITORY / "deploy" / "docker" / "envoy.Dockerfile").read_text().replace("\\\n", " ")
    (run,) = (line for line in text.splitlines() if "--allowed-host" in line)
    words = shlex.split(run)
    allowed = tuple(words[index + 1] for index, word in enumerate(words) if word == "--allowed-host")
    accepted = re.compile(hosts_regex(EnvoyOptions(http=Address("0.0.0.0", 8080), allowed_hosts=allowed)))
    said = (REPOSITORY / "docs" / "kubernetes.md").read_text().partition("REST is answered by the names")[2]
    answered, others = said.partition("\n\n")[0].split("By others")
    for text, does in ((answered, True), (others, False)):
        names = re.findall(r"`((?:envoy|localhost)[\w.]*)`", text)
        assert names
        assert [bool(accepted.fullmatch(name.replace("NAMESPACE", "a"))) for name in names] == [does] * len(names)
    assert f"`{named(overlay('cpu'), 'Service', 'envoy')['metadata']['name']}`" in answered


def test_what_the_document_says_works(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "kubernetes.md").read_text()
    for folder in set(re.findall(r"-k (deploy/kubernetes/[\w/]+)", text)):
        assert rendered(REPOSITORY / folder)
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "components:" in block)
    (tmp_path / "deploy").symlink_to(REPOSITORY / "deploy")
    written = tmp_path / "mesh" / "kustomization.yaml"
    written.parent.mkdir()
    written.write_text(example)
    objects = rendered(written.parent)
    (router,) = pod_of(named(objects, "Deployment", "router"))["containers"]
    assert variables(objects, router)["INFERMESH_KEYS_FILE"] == "/keys/keys.json"
    assert {"name": "keys", "mountPath": "/keys", "readOnly": True} in router["volumeMounts"]
    (models,) = pod_of(named(objects, "StatefulSet", "worker-cpu"))["initContainers"]
    assert variables(objects, models)["MODEL"] != variables(overlay("cpu"), models_of("cpu"))["MODEL"]
    assert all(":" in container["image"] for each in controllers(objects) for container in containers_of(each))


def models_of(name: str) -> Manifest:
    (container,) = pod_of(named(overlay(name), "StatefulSet", f"worker-{name}"))["initContainers"]
    found: Manifest = container
    return found
