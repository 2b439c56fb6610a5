"""Removes models from the worker's models folder, but never one that the worker has loaded."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from infermesh_runtime.background.shared_call import SharedCall
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import FailedPrecondition, ModelNotFound
from infermesh_runtime.importing.models_folder import staging_folder
from infermesh_runtime.importing.network_imports import check_model_name
from infermesh_runtime.manifest.model_manifest import MANIFEST
from infermesh_worker.hosting.model_loader import ModelLoader


class Removal:
    """Removes models. Used from one event loop."""

    def __init__(self, root: Path, loader: ModelLoader, *, allowed: bool, tasks: TaskSupervisor) -> None:
        """`allowed`: what the settings say."""
        self._root = root
        self._loader = loader
        self._allowed = allowed
        self._tasks = tasks

    async def remove(self, name: str) -> None:
        """Removes a model; goes on when the caller leaves.

        Raises InvalidArgument, ModelNotFound, and FailedPrecondition, as for a model that is loaded (MODEL_IN_USE).
        """
        check_model_name(name)
        if not self._allowed:
            raise FailedPrecondition(
                "This worker removes no models: INFERMESH_MANAGE_MODELS is off for it.", reason="REMOVAL_NOT_POSSIBLE"
            )
        check_not_loaded(name, self._loader.holds)
        await SharedCall(self._tasks, "removal", partial(self._remove, name), about=name).result()

    async def _remove(self, name: str) -> None:
        folder = self._root / name
        if not await asyncio.to_thread((folder / MANIFEST).is_file):
            raise _not_there(name)
        scratch = ExitStack()
        try:
            aside = await asyncio.to_thread(scratch.enter_context, staging_folder(self._root, name))
            check_not_loaded(name, self._loader.holds)  # nothing is awaited until it has disappeared
            _rename(folder, aside / name)
            await self._loader.rescan()
        finally:
            await asyncio.to_thread(scratch.close)


def check_not_loaded(name: str, holds: Callable[[str], bool]) -> None:
    """Raises FailedPrecondition (MODEL_IN_USE) for a model that the worker holds."""
    if holds(name):
        raise FailedPrecondition(
            f"Model '{name}' is loaded on this worker. Unload it first.",
            reason="MODEL_IN_USE",
            metadata={"model": name},
        )


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except FileNotFoundError:  # another process has just removed it
        raise _not_there(folder.name) from None
    except OSError as error:
        raise FailedPrecondition(f"{folder} cannot be removed: {error.strerror}") from error


def _not_there(name: str) -> ModelNotFound:
    return ModelNotFound(f"There is no model '{name}' in this worker's models folder.", metadata={"model": name})
