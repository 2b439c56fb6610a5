"""Owns reading mesh.yaml and reading it again: what is wrong is said with file and line. Knows nothing of its use.

ruamel.yaml reads it: YAML 1.2, in which `on` and `no` are words, with an error for a key that is there twice and the
line of every value.
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
    """A mesh.yaml that cannot be used; one line a problem, "file:line: field: what is wrong"."""


class ConfigFile:
    """The configuration as the file last said it well. Without a path it is the default, and stays so."""

    def __init__(self, path: Path | None = None) -> None:
        """Reads it. Raises MeshConfigError."""
        self.path = path
        self.config = MeshConfig() if path is None else read_config(path)
        self._listeners: list[Callable[[MeshConfig], None]] = []

    def follow(self, listener: Callable[[MeshConfig], None]) -> None:
        """Calls the listener with the configuration now and with each later one."""
        self._listeners.append(listener)
        listener(self.config)

    def reload(self) -> bool:
        """Reads the file again. A bad one changes nothing, is logged, and gives False."""
        if self.path is None:
            return True
        try:
            self.config = read_config(self.path)
        except MeshConfigError as error:
            _log.error("mesh configuration refused, the old one stays: %s", error)
            return False
        for listener in self._listeners:
            listener(self.config)
        _log.info("mesh configuration reloaded", extra={"path": str(self.path)})
        return True


def read_config(path: Path) -> MeshConfig:
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
    except (ValueError, RecursionError) as error:  # a value that is not what its tag or form says; too deep a nesting
        raise MeshConfigError(f"{path}: {error}") from None
    if tree is not None and not isinstance(tree, dict):
        raise MeshConfigError(f"{path}:1: must be a mapping of sections")
    try:
        return MeshConfig.model_validate(tree or {})
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise MeshConfigError("\n".join(_describe(path, tree, detail) for detail in details)) from None


def _describe(path: Path, tree: object, detail: Any) -> str:
    location: Sequence[str | int] = detail["loc"]
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "is no setting"
    elif detail["type"] != "missing" and not isinstance(detail["input"], dict | list):
        message = f"{message} (is {detail['input']!r})"
    return f"{path}:{_find_line(tree, location)}: {'.'.join(map(str, location))}: {message}"


def _find_line(tree: object, location: Sequence[str | int]) -> int:
    """The line of the innermost part of the location that is in the file."""
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
