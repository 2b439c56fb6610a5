"""The meshes that the clients of all dialects share, one of each kind of worker, behind the real Envoy.

`make test` runs the suite on worker-cpu, and `make test-xpu` on worker-xpu, whose torch runs on processors.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.conformance.tool_model import THINKING, TOOL_MODEL, make_model
from tests.e2e.conftest import new_lasting_mesh, new_mesh
from tests.e2e.mesh import CPU, MODEL, SIMULATED, XPU, Mesh, NewMesh

__all__ = ["new_lasting_mesh", "new_mesh"]

SETTINGS: dict[str, dict[str, object]] = {CPU: {"numerics": "exact"}, XPU: {"numerics": "exact", "device": "cpu"}}
"""Of each kind of worker. Their numerics are exact because tests compare texts."""
AUDIO_SEGMENTS = 3
"""Of the text of every sound in `audio_mesh`."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is for worker-cpu alone on worker-xpu."""
    left_out = [item for item in items if item.get_closest_marker("cpu_only") and item.get_closest_marker("torch")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(
    scope="session", params=[pytest.param(CPU, id="cpu"), pytest.param(XPU, id="xpu", marks=pytest.mark.torch)]
)
def worker(request: pytest.FixtureRequest) -> str:
    """The module of the worker that answers."""
    module: str = request.param
    if module == XPU:
        pytest.importorskip("torch", reason="worker-xpu needs torch: make test-xpu")
        pytest.importorskip(XPU, reason="worker-xpu is not installed: make test-xpu")
    return module


@pytest.fixture(scope="session")
def mesh(worker: str, new_lasting_mesh: NewMesh) -> Mesh:
    """A mesh with the default model."""
    return _started(new_lasting_mesh, worker, model=MODEL)


@pytest.fixture(scope="session")
def tool_mesh(
    worker: str, new_lasting_mesh: NewMesh, default_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mesh:
    """A mesh whose model takes tools and thinks if it is asked to: the default model with another chat template."""
    models = tmp_path_factory.mktemp("models")
    make_model(default_model, models / TOOL_MODEL, THINKING)
    return _started(new_lasting_mesh, worker, models=models, model=TOOL_MODEL)


@pytest.fixture(scope="session")
def audio_mesh(new_lasting_mesh: NewMesh) -> Mesh:
    """A simulated worker with a model that transcribes, which is loaded; others that speak and chat are not."""
    settings = {
        "model": "ears",
        "sim_models": "mouth:1000,chat:1000",
        "sim_transcribers": "ears",
        "sim_speakers": "mouth",
        "sim_segments": AUDIO_SEGMENTS,
        "sim_part_s": 0.005,
        "sim_itl_s": 0,
    }
    made = new_lasting_mesh([(SIMULATED, settings)])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as opened:
        yield opened


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.openai() as opened:
        yield opened


def _started(new_mesh: NewMesh, worker: str, **settings: object) -> Mesh:
    made = new_mesh([(worker, {**SETTINGS[worker], **settings})])
    made.start()
    made.wait_ready()
    return made
