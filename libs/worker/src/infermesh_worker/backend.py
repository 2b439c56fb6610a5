"""What a kind of worker brings: the functions that build models and probe the device, and the models there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime import machine
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind
from infermesh_worker.device.machine_part import MachinePart
from infermesh_worker.models.building import VERIFY_OPTION
from infermesh_worker.models.catalog import Catalog, FolderCatalog
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder, find_model, list_models
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.settings import WorkerSettings

NO_MODEL = "none"
"""Value of INFERMESH_MODEL for a worker that starts without a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A kind of worker, as the front sees it.

    The front never imports a device library, so functions that do are given by name, as package.module:function.
    """

    build: str
    """Called in an engine process with a model's build options (plain values); returns a BuiltModel."""
    probe: str
    """Called in a short-lived process with `options`; returns DeviceFacts."""
    options: Mapping[str, Any]
    """Options of every build and of the probe."""
    catalog: Catalog
    open_home: Callable[[], OpenedModel | None]
    """Opens the model to load at the start; None: there is none. Raises FailedPrecondition when it cannot be opened."""
    margin: float = 0.1
    """Share of the device's memory that models must leave free, in [0, 1)."""
    available: Callable[[DeviceKind], int | None] = lambda _kind: None
    """Measures the free memory of a device of this kind; None: only a loaded runner can tell."""
    part: MachinePart | None = None
    """The part of the machine that it runs on; None: all that this process may use."""
    kinds: tuple[ModelKind, ...] = (GENERATE,)
    """The kinds of model that it can host. `build` returns a BuiltModel for `generate`, else a BuiltExecutor."""


def machine_available_bytes(kind: DeviceKind) -> int | None:
    """Memory of this machine, or of its control group, that is free now; None for a device with memory of its own."""
    return machine.memory_available_bytes() if kind == "cpu" else None


def folder_backend(
    settings: WorkerSettings,
    *,
    build: str,
    probe: str,
    options: Mapping[str, Any],
    footprint: Callable[[ModelFolder], Footprint | None],
    kinds: tuple[ModelKind, ...] = (GENERATE,),
    takes_images: bool = False,
    part: MachinePart | None = None,
) -> Backend:
    """A worker whose models are the folders under the settings' models root that are of these kinds.

    A model's path is added to its build options as "folder". `footprint` returns None for a model that this kind of
    worker cannot load. `takes_images`: whether its runner lets models that generate text look at images. `part`: the
    part of the machine that it runs on.
    """
    build_options = {**options, VERIFY_OPTION: settings.verify}
    catalog = FolderCatalog(settings.models_root, build_options, footprint, kinds, takes_images=takes_images)

    def open_home() -> OpenedModel | None:
        if settings.model == NO_MODEL or (not settings.model and not list_models(settings.models_root)):
            return None
        return catalog.open_folder(find_model(settings.models_root, settings.model))

    return Backend(
        build=build,
        probe=probe,
        options=options,
        catalog=catalog,
        open_home=open_home,
        available=machine_available_bytes if part is None else lambda _kind: part.available_bytes(),
        part=part,
        kinds=kinds,
    )
