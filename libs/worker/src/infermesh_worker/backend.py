"""Owns what makes a kind of worker: what loads its models, and which models there are. Knows no process and no gRPC."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infermesh_worker.models.catalog import Catalog, FolderCatalog, OpenedModel
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder, find_model, list_models
from infermesh_worker.settings import WorkerSettings

NO_MODEL = "none"
"""INFERMESH_MODEL of a worker that starts without a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What the front needs to know of a kind of worker. Functions are named, as package.module:function."""

    build: str
    """Called in an engine process with a model's options (plain values); returns a LoadedModel."""
    probe: str
    """Called in a short-lived process with `options`; returns DeviceFacts."""
    options: Mapping[str, Any]
    """Of every build and of the probe."""
    catalog: Catalog
    open_home: Callable[[], OpenedModel | None]
    """The model that is loaded from the start. Raises FailedPrecondition when there is none of that name."""
    margin: float = 0.1
    """Share of the device's memory that models leave alone."""


def folder_backend(
    settings: WorkerSettings,
    *,
    build: str,
    probe: str,
    options: Mapping[str, Any],
    footprint: Callable[[ModelFolder], Footprint | None],
) -> Backend:
    """A worker whose models are the folders under the settings' models root.

    A model's path is added to its options as "folder". `footprint`: None for a model that this kind cannot load.
    """
    catalog = FolderCatalog(settings.models_root, options, footprint)

    def open_home() -> OpenedModel | None:
        if settings.model == NO_MODEL or (not settings.model and not list_models(settings.models_root)):
            return None
        return catalog.open_folder(find_model(settings.models_root, settings.model))

    return Backend(build=build, probe=probe, options=options, catalog=catalog, open_home=open_home)
