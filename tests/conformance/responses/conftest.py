"""A mesh whose model takes tools: the default model with another chat template."""

from pathlib import Path

import pytest

from tests.e2e.mesh import CPU, Mesh, NewMesh
from tests.e2e.tool_model import HERMES, make_model

TOOL_MODEL = "tools"


@pytest.fixture(scope="session")
def tool_mesh(new_mesh: NewMesh, default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    models = tmp_path_factory.mktemp("models")
    make_model(default_model, models / TOOL_MODEL, HERMES)
    made = new_mesh([(CPU, {"models": models, "model": TOOL_MODEL, "numerics": "exact"})])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture(scope="session")
def tool_model() -> str:
    """The name of its model."""
    return TOOL_MODEL
