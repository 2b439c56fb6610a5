"""Runs `infermesh models` and its subcommands: list, load, unload and remove."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.models.loading import load_and_show
from infermesh_client.cli.models.models_table import models_view
from infermesh_client.cli.output.describe import model_row, state_name
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.waiting import waiting_line
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.model_import.source import check_name
from infermesh_client.model_import.staging import disk_bytes, remove_model
from infermesh_client.settings import ClientSettings, Home
from infermesh_client.told import printable
from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.manifest.model_manifest import Manifest, model_paths, read_manifest

_KNOWN_TIMEOUT_S = 5.0


def run_remove(name: str, *, force: bool) -> None:
    """Deletes a model from the models folder. Raises ModelNotFound, and FailedPrecondition when the mesh uses it."""
    settings, home = load_settings()
    if not force and (home.models / check_name(name)).is_dir():
        _check_unused(settings, home, name)
    remove_model(home.models, check_name(name))
    error_console().print(f"Removed {name}")


def _check_unused(settings: ClientSettings, home: Home, name: str) -> None:
    """Raises FailedPrecondition when the running mesh has the model loaded or pinned, or does not say."""
    hint = "`infermesh models remove --force` removes it all the same"
    try:
        with connect(None, settings, timeout_s=_KNOWN_TIMEOUT_S) as client:
            served = next((model for model in client.models() if model.name == name), None)
    except InfermeshError as error:
        if not Supervisor(home).is_running():
            return
        raise FailedPrecondition(
            f"the running mesh does not say whether it serves {name!r} ({error.message}); {hint}", reason="MODEL_IN_USE"
        ) from error
    if served is not None:
        pinned = ", pinned" if served.pinned else ""
        raise FailedPrecondition(
            f"the mesh serves {name!r} ({state_name(served.state)}{pinned}); unload it with "
            f"`infermesh models unload {name}`, or {hint}",
            reason="MODEL_IN_USE",
        )


def run_load(name: str, endpoint: str | None, *, pinned: bool, keep_alive_s: float | None, device: str = "") -> None:
    """Loads a model on the endpoint; a router chooses one of its own on `device`. Raises InfermeshError."""
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        unloaded = load_and_show(client, name, pinned=pinned, keep_alive_s=keep_alive_s, device=device)
    made_room = f"; unloaded to make room: {', '.join(unloaded)}" if unloaded else ""
    error_console().say(f"Loaded {name}{made_room}")


def run_unload(name: str, endpoint: str | None, *, force: bool) -> None:
    """Unloads a model from the endpoint; a router unloads it everywhere. Raises InfermeshError."""
    settings, _ = load_settings()
    waiting = waiting_line(error_console(), f"Unloading {name}", loading=False)
    with connect(endpoint, settings, timeout_s=None) as client, waiting:
        client.unload_model(name, force=force)
    error_console().say(f"Unloaded {name}")


def run_list(endpoint: str | None, *, as_json: bool) -> None:
    """Prints the models that the mesh serves, if one is running, and those on disk. Raises InfermeshError."""
    settings, home = load_settings()
    stored = [read_manifest(path) for path in model_paths(home.models)]
    try:
        with connect(endpoint, settings, timeout_s=5) as client:
            served: Sequence[inference_pb2.ModelStatus] | None = client.models()
    except InfermeshError as error:
        if endpoint is not None:
            raise
        served = None
        if not as_json:
            error_console().say(f"No model is served: {error.message}")
    if as_json:
        print(printable(json.dumps(_document(served, stored, home.models), indent=2, ensure_ascii=False)))
    else:
        SafeConsole().print(models_view(served or (), stored, home.models, datetime.now(UTC)))


def _document(
    served: Sequence[inference_pb2.ModelStatus] | None, stored: Sequence[Manifest], root: Path
) -> dict[str, Any]:
    on_disk = [
        {
            **msgspec.to_builtins(manifest),
            "path": str(root / manifest.name),
            "disk_bytes": disk_bytes(root / manifest.name),
        }
        for manifest in stored
    ]
    return {"served": None if served is None else [model_row(model) for model in served], "on_disk": on_disk}
