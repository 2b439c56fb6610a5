"""Finds the versions of the packages that made a model folder, for its manifest."""

import re
from importlib.metadata import EntryPoint, PackageNotFoundError, requires, version

from infermesh_client.model_import.convert import Conversion

_OURS = "infermesh-"
_NAME = re.compile(r"[\w.-]+")


def tool_versions(conversion: Conversion) -> dict[str, str]:
    """Versions by package: ours, what reads GGUF files and tokenizers, and what the converters that ran are made of."""
    names = {"infermesh-client", "gguf", "tokenizers"}
    for entry in conversion.done:
        names |= _packages(entry)
    found = {name: value for name in sorted(names) if (value := _version(name)) is not None}
    return found | dict(conversion.environment.tools if conversion.environment and conversion.done else {})


def package_versions(*names: str) -> dict[str, str]:
    """Versions of those packages that are installed, by name."""
    return {name: found for name in sorted(names) if (found := _version(name)) is not None}


def _packages(entry: EntryPoint) -> set[str]:
    """The package of a converter, and the libraries that it always needs."""
    if entry.dist is None:
        return set()
    needed = [text for text in requires(entry.dist.name) or () if "extra ==" not in text]
    libraries = {match[0] for text in needed if (match := _NAME.match(text))}
    return {entry.dist.name} | {name for name in libraries if not name.startswith(_OURS)}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
