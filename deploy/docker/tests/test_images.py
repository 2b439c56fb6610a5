"""What can be checked of the images without a container engine: contents, Envoy's view, compose."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from infermesh_envoy import command

REPOSITORY = Path(__file__).resolve().parents[3]
DOCKER = REPOSITORY / "deploy" / "docker"
PACKAGES = ("protos", "libs/runtime", "libs/engine", "libs/worker", "libs/client", "services/router",
            "services/worker-cpu", "deploy/envoy")  # fmt: skip
IMAGES = {"router": "services/router", "worker-cpu": "services/worker-cpu", "envoy": "deploy/envoy"}


def project(folder: str) -> dict:
    return tomllib.loads((REPOSITORY / folder / "pyproject.toml").read_text())["project"]


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
def test_image_holds_its_own_packages_only(image, folder):
    extra = {"libs/client"} if image == "worker-cpu" else set()  # its target `import` is the client's command
    assert copied_folders(image) == needed_folders(folder) | extra


@pytest.mark.parametrize("image", IMAGES)
def test_context_holds_what_is_copied(image):
    ignored = (DOCKER / f"{image}.Dockerfile.dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for words in instructions(image, "COPY"):
        for source in words[:-1]:
            if words[0].startswith("--from"):
                continue
            assert (REPOSITORY / source).exists()
            assert any(source == each or source.startswith(f"{each}/") for each in allowed), source


@pytest.mark.parametrize(("image", "foreign"), [("router", ("openvino", "torch")), ("worker-cpu", ("torch",))])
def test_lock_has_no_other_device_stack(image, foreign):
    lock = (REPOSITORY / IMAGES[image] / "requirements.lock").read_text()
    assert not re.search(rf"^({'|'.join(foreign)})\b", lock, re.MULTILINE)


@pytest.mark.parametrize("image", IMAGES)
def test_image_is_pinned_and_not_root(image):
    for words in instructions(image, "FROM"):
        assert words[0].partition(":")[2] or words[0] in {"build", "base"}
        assert "latest" not in words[0]
    assert all(words[0].isdecimal() and words[0] != "0" for words in instructions(image, "USER"))
    assert instructions(image, "USER")
    assert instructions(image, "HEALTHCHECK")


def test_envoy_takes_the_configuration_that_the_image_renders(tmp_path):
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


def test_compose_names_what_there_is():
    compose = yaml.safe_load((REPOSITORY / "deploy" / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        dockerfile = REPOSITORY / service["build"]["dockerfile"]
        assert dockerfile.exists()
        if target := service["build"].get("target"):
            assert f"AS {target}\n" in dockerfile.read_text()
        assert service["read_only"]
    target = services["router"]["environment"]["INFERMESH_WORKERS"]
    name, port = target.removeprefix("dns:///").split(":")
    assert name in services
    assert ["8083", "9090"] in instructions(name, "EXPOSE")
    assert port == "8083"
    assert set(services["router"]["depends_on"]) == {"worker-cpu", "envoy"}  # what depends is stopped first
    assert [volume.split(":")[0] for volume in services["worker-cpu"]["volumes"]] == list(compose["volumes"])
