"""A mesh with a model that was trained to call tools, for each of them; downloaded and imported once."""

import pytest

from tests.e2e.conftest import new_lasting_mesh
from tests.e2e.mesh import CPU, Mesh, NewMesh
from tests.models.running import CACHE, import_gguf

__all__ = ["new_lasting_mesh"]

MODELS = CACHE / "tool-models"
NAMES = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
READY_S = 600


@pytest.fixture(scope="session", params=NAMES)
def model(request: pytest.FixtureRequest) -> str:
    """The name of the model; all tests of one run before the next one is loaded."""
    name: str = request.param
    if not (MODELS / name).is_dir():
        import_gguf(name, MODELS)
    return name


@pytest.fixture(scope="session")
def loop_mesh(model: str, new_lasting_mesh: NewMesh) -> Mesh:
    made = new_lasting_mesh([(CPU, {"models": MODELS, "model": model, "kv_cache_bytes": "512MiB"})])
    made.start()
    made.wait_ready(READY_S)
    return made


@pytest.fixture(scope="session")
def url(loop_mesh: Mesh) -> str:
    """The base URL of the mesh's REST API, without /v1."""
    return loop_mesh.envoy.http
