"""Fixtures for meshes that run as users run them, and for clients of the one that most tests share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import httpx
import openai
import pytest

from tests.e2e.mesh import CPU, MODEL, ROUTER, XPU, Mesh, NewMesh, Program, write_manage_key


@contextmanager
def making_meshes(default_model: Path, folders: pytest.TempPathFactory) -> Iterator[NewMesh]:
    """Makes meshes, and stops them when the block ends."""
    with ExitStack() as stopping:

        def make(workers: Sequence[tuple[str, Mapping[str, object]]], **router_settings: object) -> Mesh:
            folder = folders.mktemp("mesh")
            real = {"models": default_model.parent, "model": MODEL, "kv_cache_bytes": "256MiB"}
            programs = [
                Program(module, folder / f"worker-{i}.log", {**(real if module in (CPU, XPU) else {}), **settings})
                for i, (module, settings) in enumerate(workers)
            ]
            endpoints = ",".join(program.address for program in programs)
            admin = f"unix:{folder}/admin.sock"
            # tests kill engines under the same request again and again
            settings: dict[str, object] = {"workers": endpoints, "admin_listen": admin, "poison_s": 0}
            settings["manage_key_file"] = write_manage_key(folder)
            settings["responses_store"] = folder / "responses.sqlite"
            settings["batches_store"] = folder / "batches.sqlite"
            router = Program(ROUTER, folder / "router.log", {**settings, **router_settings})
            mesh = Mesh(folder, programs, router)
            stopping.callback(mesh.stop)
            return mesh

        yield make


@pytest.fixture(scope="module")
def new_mesh(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewMesh]:
    """Makes meshes and stops them at the end of the module: new_mesh([(CPU, {"numerics": "exact"})])."""
    with making_meshes(default_model, tmp_path_factory) as new:
        yield new


@pytest.fixture(scope="session")
def new_lasting_mesh(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewMesh]:
    """The same, at the end of the session. For meshes that modules share, as each takes memory and some time."""
    with making_meshes(default_model, tmp_path_factory) as new:
        yield new


@pytest.fixture(scope="session")
def mesh(new_lasting_mesh: NewMesh) -> Mesh:
    """The mesh that most tests share. Its numerics are exact because tests compare texts."""
    made = new_lasting_mesh([(CPU, {"numerics": "exact"})])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    with mesh.http() as client:
        yield client


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with mesh.openai() as opened:
        yield opened


@pytest.fixture
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(mesh.envoy.grpc) as opened:
        yield opened


@pytest.fixture
def admin(mesh: Mesh) -> Iterator[grpc.Channel]:
    """A channel to the router's admin address."""
    with grpc.insecure_channel(mesh.admin) as opened:
        yield opened
