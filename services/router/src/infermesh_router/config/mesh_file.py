"""Reads mesh.yaml, at the start and again on request, and reports problems with file and line.

We use ruamel.yaml because it reads YAML 1.2 (in which `on` and `no` are plain words), refuses duplicate keys, and knows
the line of every value.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from infermesh_router.config.mesh_config import MeshConfig

_log = logging.getLogger(__name__)


class MeshConfigError(Exception):
    """A mesh.yaml that cannot be used. One line per problem: "file:line: field: what is wrong"."""


class MeshFile:
    """The last valid configuration in the file; without a path, the defaults."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads the file. Raises MeshConfigError."""
        self.path = path
        self.config = MeshConfig() if path is None else read_mesh_config(path)
        self._listeners: list[Callable[[MeshConfig], None]] = []

    def follow(self, listener: Callable[[MeshConfig], None]) -> None:
        """Calls the listener with the configuration, now and after each reload."""
        self._listeners.append(listener)
        listener(self.config)

    def reload(self) -> bool:
        """Reads the file again. If it is bad, logs why, keeps the old configuration and returns False."""
        if self.path is None:
            return True
        try:
            self.config = read_mesh_config(self.path)
        except MeshConfigError as error:
            _log.error("mesh.yaml refused, the previous configuration stays in force: %s", error)
            return False
        for listener in self._listeners:
            listener(self.config)
        _log.info("mesh.yaml reloaded", extra={"path": str(self.path)})
        return True


def read_mesh_config(path: Path) -> MeshConfig:
    """The configuration in the file. Raises MeshConfigError."""
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MeshConfigError(f"{path}: {error}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise MeshConfigError(f"{path}{line}: {error.problem or error.context}") from None
    except YAMLError as error:
        raise MeshConfigError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # a malformed tag or date; too deep a nesting
        raise MeshConfigError(f"{path}: {error}") from None
    if tree is not None and not isinstance(tree, dict):
        raise MeshConfigError(f"{path}:1: must be a mapping of sections, such as 'weights: {{}}'")
    try:
        return MeshConfig.model_validate(tree or {})
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise MeshConfigError("\n".join(_describe(path, tree, detail) for detail in details)) from None


def _describe(path: Path, tree: object, detail: Any) -> str:
    location: Sequence[str | int] = detail["loc"]
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "is not a setting of mesh.yaml"
    elif detail["type"] != "missing" and not isinstance(detail["input"], dict | list):
        message = f"{message}, not {detail['input']!r}"
    return f"{path}:{_find_line(tree, location)}: {'.'.join(map(str, location))}: {message}"


def _find_line(tree: object, location: Sequence[str | int]) -> int:
    """The line of the innermost part of the location that the file contains."""
    line, node = 1, tree
    for part in location:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        else:
            break
        node = node[part]
    return line
