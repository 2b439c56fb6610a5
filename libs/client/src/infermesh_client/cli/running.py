"""What `infermesh up` does when the mesh already runs: checks that it is as asked for, and loads the model named."""

import os
from collections.abc import Sequence

from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.connection import connect, own_admin
from infermesh_client.cli.models.known import wait_until_known
from infermesh_client.cli.models.models import run_load
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.output.tables import endpoints_view
from infermesh_client.client import Client
from infermesh_client.mesh.differences import check_same
from infermesh_client.mesh.plan import NO_MODEL
from infermesh_client.mesh.state import MeshState, read_state
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import FailedPrecondition

_ANSWER_TIMEOUT_S = 10.0
_KNOWN_TIMEOUT_S = 5.0


def adapt_running(
    console: SafeConsole,
    settings: ClientSettings,
    home: Home,
    workers: Sequence[WorkerSpec],
    routers: int | None = None,
) -> MeshState:
    """Makes the running mesh what was asked for and shows its endpoints. Returns its state.

    Raises FailedPrecondition, saying what differs, where that takes a new start, and InfermeshError when the mesh does
    not answer or cannot load the model.
    """
    state = read_state(home)
    if state is None:
        raise FailedPrecondition(
            f"a mesh is running in {home.root}, but its mesh.json cannot be read. Stop it with `infermesh down`, then "
            "run this command again"
        )
    check_same(state, settings, workers, [process.name for process in Supervisor(home).processes()], routers)
    if name := os.environ.get("INFERMESH_MODEL", ""):
        _adapt_model(settings, name)
    with Client(own_admin(state), timeout_s=_ANSWER_TIMEOUT_S) as client:
        console.print(endpoints_view(client.endpoints()))
    return state


def _adapt_model(settings: ClientSettings, name: str) -> None:
    """Loads and pins the model that INFERMESH_MODEL names, unless it is."""
    with connect(None, settings, timeout_s=_ANSWER_TIMEOUT_S) as client:
        models = client.models()
    if name == NO_MODEL:
        if models:
            raise FailedPrecondition(
                f"INFERMESH_MODEL={NO_MODEL} asks for a mesh without a model, but this one has "
                f"{', '.join(model.name for model in models)}. `infermesh models unload NAME` unloads one",
                reason="MESH_DIFFERS",
            )
        return
    ready = inference_pb2.ENDPOINT_STATE_READY
    if not any(model.name == name and model.state == ready and model.pinned for model in models):
        with connect(None, settings, timeout_s=_KNOWN_TIMEOUT_S) as client:
            wait_until_known(client, name)  # it may have been imported a moment ago
        run_load(name, None, pinned=True, keep_alive_s=None)
