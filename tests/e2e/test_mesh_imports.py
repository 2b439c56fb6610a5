"""Models imported, cancelled and removed through the real Envoy, by a worker's real command, from a stand-in hub."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from libs.client.tests.model_import.conftest import Hub, served
from tests.e2e.mesh import CPU, Mesh, NewMesh
from tests.gguf_files.tiny_models import MODELS, write_model

WAIT_S = 60.0
FEWER_ENTRY_POINTS = """
import importlib.metadata as metadata
every = metadata.entry_points
def entry_points(**wanted):
    if wanted.get("group") == "infermesh.model_provers":
        return []
    return [entry for entry in every(**wanted) if not entry.value.startswith("infermesh_worker_xpu")]
metadata.entry_points = entry_points
"""
"""Python reads this before it runs the command: imports are tried by no runner, and never load torch."""
Told = dict[str, Any]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    state = Hub(models={"org/model": {"m.gguf": write_model(folder / "m.gguf", MODELS["plain"]).read_bytes()}})
    with served(state):
        yield state


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models folder, which holds no models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def mesh(new_mesh: NewMesh, hub: Hub, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(FEWER_ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_ENDPOINT", hub.url)
        environment.setenv("HF_HOME", str(folder / "hf"))
        environment.setenv("PYTHONPATH", str(folder))
        made = new_mesh([(CPU, {"models": root, "home": folder, "model": "none"})], reconnect_max_s=0.2)
        made.start()
        made.wait_ready()
        yield made


@pytest.fixture
def http(mesh: Mesh, hub: Hub) -> Iterator[httpx.Client]:
    """The owner of the mesh. The hub serves whole files again afterwards."""
    headers = {"x-infermesh-manage-key": mesh.manage_key}
    with httpx.Client(base_url=mesh.envoy.http, timeout=WAIT_S, headers=headers) as client:
        yield client
    hub.stall = False
    hub.resume.set()


def begin(http: httpx.Client, **fields: Any) -> Told:
    answer = http.post("/mesh/v1/imports", json={"source": "org/model", "name": "tiny", **fields})
    assert answer.status_code == 200, answer.text
    told: Told = answer.json()
    return told


def stall(hub: Hub) -> None:
    hub.stall = True
    hub.stalled.clear()
    hub.resume.clear()


def follow(http: httpx.Client, import_id: str, fits: Callable[[Told], bool]) -> list[Told]:
    """An import as the snapshots of the events show it, until it fits."""
    shown: list[Told] = []
    with http.stream("GET", "/mesh/v1/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: ") and '"imports"' in line:
                imports = json.loads(line.removeprefix("data: "))["imports"]
                shown += [each for each in imports if each["import_id"] == import_id]
                if shown and fits(shown[-1]):
                    return shown
    raise AssertionError(shown)


def has_ended(told: Told) -> bool:
    return bool(told["state"] != "running")


def available(http: httpx.Client) -> set[str]:
    endpoints = http.get("/mesh/v1/endpoints").json()["endpoints"]
    return {model["name"] for endpoint in endpoints for model in endpoint["available"]}


def leavings(root: Path) -> set[str]:
    return {entry.name for entry in root.iterdir() if not entry.name.endswith(".lock")}


def test_an_imported_model_answers_and_can_be_removed(http: httpx.Client, hub: Hub, root: Path) -> None:
    stall(hub)
    begun = begin(http)
    shown = follow(http, begun["import_id"], lambda told: bool(told["step"] == "Downloading org/model"))[-1]
    assert (shown["state"], shown["endpoint"], shown["source"]) == ("running", begun["endpoint"], "hf:org/model")
    assert (shown["done_bytes"], shown["total_bytes"]) == (0, len(hub.models["org/model"]["m.gguf"]))
    busy = http.post("/mesh/v1/imports", json={"source": "org/model", "name": "other"})
    assert (busy.status_code, busy.json()["error"]["code"]) == (429, "import_running")
    hub.stall = False
    hub.resume.set()
    ended = follow(http, begun["import_id"], has_ended)[-1]
    assert ended["state"] == "done", ended
    assert (ended["fraction"], ended["message"]) == (1, "")
    assert ended["started_at"] < ended["ended_at"]
    assert "tiny" in available(http)
    asked = {"model": "tiny", "prompt": "ab", "max_tokens": 2}
    assert http.post("/v1/completions", json=asked).json()["usage"]["completion_tokens"] >= 1
    loaded = http.delete("/mesh/v1/models/tiny")
    assert (loaded.status_code, loaded.json()["error"]["code"]) == (400, "model_in_use")
    taken = http.post("/mesh/v1/imports", json={"source": "org/model", "name": "tiny"})
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "model_exists")
    assert http.post("/mesh/v1/models/tiny:unload", json={}).status_code == 200
    removed = http.delete("/mesh/v1/models/tiny", params={"endpoint": begun["endpoint"]})
    assert removed.json() == {"endpoints": [begun["endpoint"]]}
    assert (available(http), leavings(root)) == (set(), set())
    assert http.delete("/mesh/v1/models/tiny").status_code == 404


def test_a_cancelled_import_leaves_nothing(http: httpx.Client, hub: Hub, root: Path) -> None:
    stall(hub)
    begun = begin(http)
    assert hub.stalled.wait(WAIT_S)
    assert leavings(root)
    cancelled = http.post(f"/mesh/v1/imports/{begun['import_id']}:cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert (leavings(root), available(http)) == (set(), set())
    assert http.get("/mesh/v1/imports").json()["imports"][0] == cancelled.json()
    assert http.post("/mesh/v1/imports/none:cancel").status_code == 404


def test_a_failure_says_why(http: httpx.Client) -> None:
    begun = begin(http, source="org/missing")
    ended = follow(http, begun["import_id"], has_ended)[-1]
    assert ended["state"] == "failed"
    assert "org/missing" in ended["message"]
    assert "does not exist" in ended["message"]


def test_only_the_owner_imports_and_no_paths(http: httpx.Client, mesh: Mesh, root: Path) -> None:
    wanted = {"source": "org/model", "name": "tiny"}
    with httpx.Client(base_url=mesh.envoy.http, timeout=WAIT_S) as other:
        calls = (
            other.post("/mesh/v1/imports", json=wanted),
            other.get("/mesh/v1/imports"),
            other.post("/mesh/v1/imports/x:cancel"),
            other.delete("/mesh/v1/models/tiny"),
        )
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in calls} == {(403, "admin_key_needed")}
    refused = http.post("/mesh/v1/imports", json={**wanted, "source": str(root)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "source_not_allowed")


def test_a_dead_workers_import_has_failed_and_leaves_no_process(
    http: httpx.Client, mesh: Mesh, hub: Hub, root: Path
) -> None:
    stall(hub)
    begun = begin(http)
    assert hub.stalled.wait(WAIT_S)
    (worker,) = mesh.workers
    processes = psutil.Process(worker.process.pid).children(recursive=True)
    importing = [each for each in processes if "infermesh_client.command" in each.cmdline()]
    assert importing
    worker.kill()
    lost = follow(http, begun["import_id"], has_ended)[-1]
    assert (lost["state"], "The worker is lost" in lost["message"]) == ("failed", True)
    psutil.wait_procs(importing, WAIT_S)
    assert not any(each.is_running() for each in importing)
    hub.stall = False
    worker.start()
    mesh.wait_ready()
    again = begin(http)  # it goes on with what has arrived, and removes the dead one's folder
    assert follow(http, again["import_id"], has_ended)[-1]["state"] == "done"
    assert leavings(root) == {"tiny"}
    shutil.rmtree(root / "tiny")
