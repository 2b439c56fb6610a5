"""Checks the images without a container engine: their contents, Envoy's configuration, and compose.yaml."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from infermesh_envoy import command
from infermesh_router.config.settings import RouterSettings

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKER = REPOSITORY / "deploy" / "docker"
PACKAGES = ("protos", "libs/runtime", "libs/engine", "libs/worker", "libs/client", "services/router",
            "services/worker-cpu", "services/worker-xpu", "deploy/envoy")  # fmt: skip
IMAGES = {
    "router": "services/router",
    "worker-cpu": "services/worker-cpu",
    "worker-xpu": "services/worker-xpu",
    "envoy": "deploy/envoy",
}
PROFILES = {"worker-xpu": "xpu", "worker-cuda": "cuda"}
"""Services that run only where their profile is asked for: both are worker-xpu's image, for another device each."""


def project(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]
    return found


def needed_folders(folder: str) -> set[str]:
    """The folder and those of the packages of ours that it depends on."""
    by_name = {project(each)["name"]: each for each in PACKAGES}
    names = (re.split(r"[^\w-]", requirement)[0] for requirement in project(folder).get("dependencies", []))
    return {folder}.union(*(needed_folders(by_name[name]) for name in names if name in by_name))


def instructions(image: str, kind: str) -> list[list[str]]:
    """The words of each such instruction, continuation lines joined."""
    text = (DOCKER / f"{image}.Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith(f"{kind} ")]


def copied_folders(image: str) -> set[str]:
    sources = (word for words in instructions(image, "COPY") if "--from" not in words[0] for word in words[:-1])
    return {source for source in sources if source in PACKAGES}


@pytest.mark.parametrize(("image", "folder"), IMAGES.items())
def test_image_holds_its_own_packages_only(image: str, folder: str) -> None:
    extra = {"libs/client"} if image == "worker-cpu" else set()  # its target `import` is the client's command
    assert copied_folders(image) == needed_folders(folder) | extra


@pytest.mark.parametrize("image", IMAGES)
def test_context_holds_what_is_copied(image: str) -> None:
    ignored = (DOCKER / f"{image}.Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for words in instructions(image, "COPY"):
        for source in words[:-1]:
            if words[0].startswith("--from"):
                continue
            assert (REPOSITORY / source).exists()
            assert any(source == each or source.startswith(f"{each}/") for each in allowed), source


@pytest.mark.parametrize(
    ("image", "foreign"), [("router", ("openvino", "torch")), ("worker-cpu", ("torch",)), ("worker-xpu", ("openvino",))]
)
def test_lock_has_no_other_device_stack(image: str, foreign: tuple[str, ...]) -> None:
    lock = (REPOSITORY / IMAGES[image] / "requirements.lock").read_text()
    assert not re.search(rf"^({'|'.join(foreign)})\b", lock, re.MULTILINE)


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_pinned_and_not_root(image: str) -> None:
    for words in instructions(image, "FROM"):
        assert words[0].partition(":")[2] or words[0] in {"build", "base"}
        assert "latest" not in words[0]
    assert all(words[0].isdecimal() and words[0] != "0" for words in instructions(image, "USER"))
    assert instructions(image, "USER")
    assert instructions(image, "HEALTHCHECK")


def test_envoy_takes_the_configuration_that_the_image_renders(tmp_path: Path) -> None:
    (run,) = (words for words in instructions("envoy", "RUN") if "infermesh_envoy" in words)
    arguments = [word.replace("${ROUTER}", "router:8082") for word in run[run.index("-m") : run.index(">")]]
    sources = {"/etc/envoy/descriptors.binpb": "protos/infermesh/descriptors.binpb",
               "/etc/envoy/errors.lua": "deploy/envoy/src/infermesh_envoy/errors.lua"}  # fmt: skip
    here = [str(REPOSITORY / sources[word]) if word in sources else word for word in arguments]
    config = tmp_path / "envoy.yaml"
    config.write_bytes(subprocess.run([sys.executable, *here], check=True, capture_output=True).stdout)
    validate = [*command(config), "--mode", "validate"]
    done = subprocess.run(validate, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_compose_names_what_there_is() -> None:
    compose = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        dockerfile = REPOSITORY / service["build"]["dockerfile"]
        assert dockerfile.exists()
        if target := service["build"].get("target"):
            assert f"AS {target}\n" in dockerfile.read_text()
        assert service["read_only"]
    targets = services["router"]["environment"]["INFERMESH_WORKERS"].split(",")
    names = [target.removeprefix("dns:///").removesuffix(":8083") for target in targets]
    assert names == ["worker-cpu", *PROFILES]
    assert all(["8083", "9090"] in instructions(image, "EXPOSE") for image in ("worker-cpu", "worker-xpu"))
    assert set(services["router"]["depends_on"]) == {
        "worker-cpu",
        "envoy",
        "mesh-token",
    }  # what depends is stopped first
    for name in names:
        assert services[name]["volumes"][0].startswith("models:/models")
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert mounted == set(compose["volumes"])


def test_compose_imports_through_the_mesh_by_worker_cpu_for_all() -> None:
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    writing = {name for name, service in services.items() if "models:/models" in service.get("volumes", ())}
    assert writing == {"models", "worker-cpu", "worker-cpu-1"}
    stages = re.split(r"^FROM ", (DOCKER / "worker-cpu.Dockerfile").read_text(), flags=re.MULTILINE)
    (worker,) = (stage for stage in stages if stage.startswith("base AS worker\n"))
    (build,) = (stage for stage in stages if stage.partition("\n")[0].endswith(" AS build"))
    assert "COPY --from=build /opt/infermesh /opt/infermesh" in worker
    assert "/src/libs/client && pip check" in build


def test_compose_imports_where_there_is_room_and_programs_may_run() -> None:
    """/tmp is memory there, and runs none; conversions install torch for themselves."""
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    variables = dict(word.split("=") for words in instructions("worker-cpu", "ENV") for word in words if "=" in word)
    for name in ("INFERMESH_HOME", "HF_HOME", "TMPDIR"):
        assert f"{variables[name]}/".startswith("/work/"), name
    assert any({"install", "/work"} <= set(words) for words in instructions("worker-cpu", "RUN"))
    for service in services.values():
        if "models:/models" in service.get("volumes", ()):
            assert "work:/work" in service["volumes"]
            assert not {"INFERMESH_HOME", "HF_HOME", "TMPDIR"} & set(service["environment"])


def test_compose_has_keys_for_those_who_manage_the_mesh(tmp_path: Path) -> None:
    """Its own command makes a key where its router looks, if it is told to."""
    text = (REPOSITORY / "deploy" / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    router, keys = services["router"], services["keys"]
    path = re.fullmatch(r"\$\{INFERMESH_WITH_KEYS:\+(.*)\}", router["environment"]["INFERMESH_KEYS_FILE"])
    assert path is not None
    assert ("keys:/keys:ro" in router["volumes"], "keys:/keys" in keys["volumes"]) == (True, True)
    for image in ("router", "worker-cpu"):
        assert any({"install", "/keys"} <= set(words) for words in instructions(image, "RUN"))
    program, *words = keys["entrypoint"]
    home = keys["environment"]["INFERMESH_HOME"]
    command = [str(Path(sys.executable).parent / program), *words, "create", "boss", "--admin"]
    environment = {"PATH": "/usr/bin:/bin", "INFERMESH_HOME": f"{tmp_path}{home}"}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert Path(f"{tmp_path}{path[1]}").is_file()
    for place in (text, (REPOSITORY / "docs" / "router.md").read_text()):
        assert "run --rm keys create NAME --admin`" in place
        assert "INFERMESH_WITH_KEYS=1" in place


def test_compose_publishes_to_this_machine_only_and_says_that_it_is_in_plain_text() -> None:
    """Its containers listen on all addresses, and would not start otherwise."""
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    for name in ("router", "worker-cpu", *PROFILES):
        assert services[name]["environment"]["INFERMESH_INSECURE"] == "1"
        assert services[name]["environment"]["INFERMESH_MESH_TOKEN"] == "${INFERMESH_MESH_TOKEN:-}"
        assert services[name]["environment"]["INFERMESH_MESH_TOKEN_FILE"] == "/mesh/token"
        assert "mesh:/mesh:ro" in services[name]["volumes"]
        assert services[name]["depends_on"]["mesh-token"] == {"condition": "service_completed_successfully"}
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_scales_routers_that_know_each_other(tmp_path: Path) -> None:
    """By one name, at the port where they serve each other; the secret for it is made once, and only by one service."""
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    environment = services["router"]["environment"]
    assert environment["INFERMESH_SIBLINGS"] == "dns:///router:8084"
    assert environment["INFERMESH_ADMIN_LISTEN"] == "0.0.0.0:8084"
    assert "INFERMESH_ROUTER_COUNT" not in environment  # they are counted
    (port,) = services["router"]["ports"]
    assert port.endswith(
        "${INFERMESH_ADMIN_PORT:-${INFERMESH_MESH_TOKEN:+8084}}:8084"
    )  # no fixed one that only one has
    assert [name for name, each in services.items() if "mesh:/mesh" in each.get("volumes", ())] == ["mesh-token"]
    (command,) = services["mesh-token"]["command"]
    (tmp_path / "mesh").mkdir()
    tokens = []
    for _ in range(2):
        subprocess.run(["/bin/sh", "-c", command.replace("/mesh/", f"{tmp_path}/mesh/")], check=True)
        tokens.append((tmp_path / "mesh" / "token").read_text())
    assert (tmp_path / "mesh" / "token").stat().st_mode & 0o777 == 0o600
    options: dict[str, Any] = {"admin_listen": "0.0.0.0:1", "insecure": True, "siblings": "dns:///router:8084"}
    settings = RouterSettings(mesh_token_file=str(tmp_path / "mesh" / "token"), **options)
    assert (len(set(tokens)), settings.token()) == (1, tokens[0])
    for image in ("router", "worker-cpu", "worker-xpu"):
        assert any({"install", "/mesh"} <= set(words) for words in instructions(image, "RUN"))


def test_compose_starts_a_gpu_s_worker_only_where_it_is_asked_for() -> None:
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {
        name: [profile] for name, profile in {**PROFILES, "worker-cpu-1": "cpu-1", "keys": "keys"}.items()
    }
    for name, profile in PROFILES.items():
        assert services[name]["build"]["dockerfile"] == "deploy/docker/worker-xpu.Dockerfile"
        declared = {words[0].partition("=")[0] for words in instructions("worker-xpu", "ARG")}
        assert set(services[name]["build"]["args"]) <= declared
        assert services[name]["environment"]["INFERMESH_DEVICE"] == profile
        assert services[name]["environment"]["INFERMESH_MODEL"]
        assert services[name]["tmpfs"] == ["/tmp:exec"]


def test_compose_shares_the_processors_between_two_cpu_workers() -> None:
    services = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())["services"]
    first, second = services["worker-cpu"], services["worker-cpu-1"]
    assert first["environment"].pop("INFERMESH_CPU_PART") == "${INFERMESH_CPU_WORKERS:+0/${INFERMESH_CPU_WORKERS}}"
    assert second["environment"].pop("INFERMESH_CPU_PART") == "1/${INFERMESH_CPU_WORKERS:-2}"
    assert second.pop("profiles") == ["cpu-1"]
    assert second.pop("networks") == {"default": {"aliases": ["worker-cpu"]}}  # where the router looks
    assert first == second


@pytest.mark.parametrize("index", ["", "file:///wheels"])
def test_torch_comes_from_the_index_that_is_told_with_that_index_s_triton(index: str, tmp_path: Path) -> None:
    """The image's own command, with a pip that notes what it is asked for."""
    locked = (REPOSITORY / "services/worker-xpu/requirements.lock").read_text()
    torch = next(line for line in locked.splitlines() if line.startswith("torch=="))
    lock = tmp_path / "requirements.lock"
    lock.write_text(locked)
    pip = tmp_path / "pip"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    pip.chmod(0o755)
    text = (DOCKER / "worker-xpu.Dockerfile").read_text().replace("\\\n", " ")
    (run,) = (line.removeprefix("RUN ") for line in text.splitlines() if "TORCH_INDEX}" in line)
    run = run.replace("/src/requirements.lock", str(lock))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH_INDEX": index}
    subprocess.run(["/bin/sh", "-c", run], check=True, env=environment)
    asked = (tmp_path / "asked").read_text().splitlines()
    rest = f"install --no-cache-dir -r {lock}"
    if index:
        assert asked == [f"install --no-cache-dir --index-url {index} {torch}", rest]
        gone = {line for line in locked.splitlines() if line.startswith(("torch==", "triton=="))}
        assert set(lock.read_text().splitlines()) == set(locked.splitlines()) - gone
        assert "torchao" in lock.read_text()
    else:
        assert asked == [rest]
        assert lock.read_text() == locked
