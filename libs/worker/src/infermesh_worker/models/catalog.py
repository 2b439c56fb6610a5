"""Lists the models that a worker could load, and opens them."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from infermesh_runtime.errors import FailedPrecondition, ModelNotFound
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.model_kind import GENERATE, BatchLimits, ModelKind, TensorSpec
from infermesh_runtime.manifest.model_manifest import MANIFEST, model_paths
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import CHAT_TEMPLATE, ModelFolder
from infermesh_worker.models.opened_model import OpenedModel

FOLDER_OPTION = "folder"
"""Name of the build option that holds the model folder's path."""
IDENTITY_OPTION = "identity"
"""Name of the build option that holds the identity of the manifest that the front has read."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model that could be loaded."""

    name: str
    size_bytes: int
    """Size of its weights on disk."""
    context_length: int
    footprint: Footprint
    created: datetime
    """When it was imported."""
    has_chat_template: bool
    """Without one it is a base model, which takes no conversations."""
    answer_style: AnswerStyle | None = None
    """How it writes tool calls and reasoning; None: not known before it has answered."""
    generation: GenerationDefaults | None = None
    """How its answers are made where a request does not say; None: by the contract's defaults."""
    kind: ModelKind = GENERATE
    inputs: tuple[TensorSpec, ...] = ()
    """The tensors that it takes and gives, for kinds whose requests are tensors."""
    outputs: tuple[TensorSpec, ...] = ()
    batching: BatchLimits | None = None
    voices: tuple[str, ...] = ()
    """The voices that it speaks with, its default first."""
    takes_images: bool = False
    """Whether its conversations may have images."""


class Catalog(Protocol):
    """The models that a worker could load. Its methods read files, so call them in a thread."""

    def entries(self) -> Mapping[str, CatalogEntry]:
        """All models by name, as they are now."""
        ...

    def open(self, name: str) -> OpenedModel:
        """Opens a model. Raises ModelNotFound, and FailedPrecondition when its files cannot be used."""
        ...


class FolderCatalog:
    """The model folders under a root that this kind of worker can load."""

    def __init__(
        self,
        root: Path,
        options: Mapping[str, Any],
        footprint: Callable[[ModelFolder], Footprint | None],
        kinds: Collection[ModelKind] = (GENERATE,),
        *,
        takes_images: bool = False,
    ) -> None:
        """`options`: build options of every model. `footprint` returns None for a model that cannot be loaded.

        `kinds`: the kinds of model that can be hosted; others are left out. `takes_images`: whether models that look
        at images may do so here.
        """
        self._root = root
        self._options = options
        self._footprint = footprint
        self._kinds = kinds
        self._takes_images = takes_images
        self._known: dict[Path, tuple[int, CatalogEntry | None]] = {}
        self._paths: Mapping[str, Path] = {}
        self._left_out: dict[Path, str] = {}

    def entries(self) -> Mapping[str, CatalogEntry]:
        """All models by name. A folder that cannot be opened is logged once and left out until it can be."""
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
            raise ModelNotFound(f"There is no model {name!r} in {self._root}.", metadata={"model": name})
        return self.open_folder(ModelFolder.open(path))

    def open_folder(self, folder: ModelFolder) -> OpenedModel:
        """Opens a model folder. Raises FailedPrecondition when its tokenizer or chat template cannot be used."""
        options = {**self._options, FOLDER_OPTION: str(folder.path), IDENTITY_OPTION: folder.manifest.identity}
        return OpenedModel.from_folder(folder, options, takes_images=self._takes_images)

    def _entry(self, path: Path) -> CatalogEntry | None:
        try:
            written_ns = (path / MANIFEST).stat().st_mtime_ns
            known = self._known.get(path)
            if known is None or known[0] != written_ns:
                known = self._known[path] = (written_ns, self._describe(ModelFolder.open(path)))
        except OSError:
            return None
        except FailedPrecondition as error:  # the folder may still be being copied, so the next scan tries it again
            if self._left_out.get(path) != error.message:
                self._left_out[path] = error.message
                _log.warning("model left out", extra={"folder": str(path), "reason": error.message})
            return None
        return known[1]

    def _describe(self, folder: ModelFolder) -> CatalogEntry | None:
        manifest = folder.manifest
        footprint = self._footprint(folder) if manifest.kind in self._kinds else None
        if footprint is None:
            return None
        return CatalogEntry(
            name=manifest.name,
            size_bytes=manifest.size_bytes,
            context_length=manifest.context_length,
            footprint=footprint,
            created=manifest.created,
            has_chat_template=(folder.path / CHAT_TEMPLATE).is_file(),
            answer_style=manifest.answer_style,
            generation=manifest.generation,
            kind=manifest.kind,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            batching=manifest.batching,
            voices=manifest.voices,
            takes_images=self._takes_images and manifest.images is not None,
        )
