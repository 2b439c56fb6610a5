"""Owns which models a worker could load, and what it takes to open one. Knows no engine and no memory but estimates."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from infermesh_runtime.errors import FailedPrecondition, ModelNotFound
from infermesh_runtime.model_manifest import MANIFEST, model_paths
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.served_model import ServedModel

FOLDER_OPTION = "folder"
"""Name of the build option that holds the model folder's path."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model that could be loaded."""

    name: str
    size_bytes: int
    """Of its weights on disk."""
    context_length: int
    footprint: Footprint


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A model that is about to be loaded: what the front serves, and what its engine process builds it with."""

    served: ServedModel
    options: Mapping[str, Any]


class Catalog(Protocol):
    """The models there are. Its methods read files: call them in a thread."""

    def entries(self) -> Mapping[str, CatalogEntry]:
        """By name, as they are now."""
        ...

    def open(self, name: str) -> OpenedModel:
        """Raises ModelNotFound, and FailedPrecondition when its files cannot be used."""
        ...


class FolderCatalog:
    """The model folders under a root that this kind of worker can load."""

    def __init__(
        self, root: Path, options: Mapping[str, Any], footprint: Callable[[ModelFolder], Footprint | None]
    ) -> None:
        """`footprint`: None for a model that this kind of worker cannot load. `options`: of every build."""
        self._root = root
        self._options = options
        self._footprint = footprint
        self._known: dict[Path, tuple[int, CatalogEntry | None]] = {}
        self._paths: Mapping[str, Path] = {}
        self._left_out: dict[Path, str] = {}

    def entries(self) -> Mapping[str, CatalogEntry]:
        """By name. Folders that cannot be opened are logged once and left out until they can be."""
        entries: dict[str, CatalogEntry] = {}
        paths: dict[str, Path] = {}
        for path in model_paths(self._root):
            entry = self._entry(path)
            if entry is not None and entry.name not in entries:
                entries[entry.name], paths[entry.name] = entry, path
        self._paths = paths
        return entries

    def open(self, name: str) -> OpenedModel:
        if name not in self._paths:
            self.entries()
        path = self._paths.get(name)
        if path is None:
            raise ModelNotFound(f"model {name!r} is not in {self._root}", metadata={"model": name})
        return self.open_folder(ModelFolder.open(path))

    def open_folder(self, folder: ModelFolder) -> OpenedModel:
        """Raises FailedPrecondition when its tokenizer or template cannot be used."""
        return OpenedModel(ServedModel.from_folder(folder), {**self._options, FOLDER_OPTION: str(folder.path)})

    def _entry(self, path: Path) -> CatalogEntry | None:
        try:
            written_ns = (path / MANIFEST).stat().st_mtime_ns
            known = self._known.get(path)
            if known is None or known[0] != written_ns:
                known = self._known[path] = (written_ns, self._describe(ModelFolder.open(path)))
        except OSError:
            return None
        except FailedPrecondition as error:  # it may be in the middle of being copied: it is tried again
            if self._left_out.get(path) != error.message:
                self._left_out[path] = error.message
                _log.warning("model left out", extra={"folder": str(path), "reason": error.message})
            return None
        return known[1]

    def _describe(self, folder: ModelFolder) -> CatalogEntry | None:
        footprint = self._footprint(folder)
        if footprint is None:
            return None
        manifest = folder.manifest
        return CatalogEntry(
            name=manifest.name,
            size_bytes=manifest.size_bytes,
            context_length=manifest.context_length,
            footprint=footprint,
        )
