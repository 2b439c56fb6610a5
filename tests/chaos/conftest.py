"""Fixtures for a mesh that is disturbed while it runs."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.mesh import Mesh, running_mesh


@pytest.fixture
async def mesh(default_model: Path, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A router, two workers with the real model and exact numerics, and a simulated worker, each behind a link."""
    real: dict[str, object] = {
        "models": default_model.parent,
        "model": default_model.name,
        "numerics": "exact",
        "kv_cache_bytes": "128MiB",
        "threads": 1,
        "max_sequences": 8,
    }
    simulated: dict[str, object] = {"sim_itl_s": 0.01}
    kinds = [("infermesh_worker_cpu", real)] * 2 + [("infermesh_worker.testing.simulated", simulated)]
    async with running_mesh(kinds, tmp_path) as mesh:
        yield mesh


@pytest.fixture
def chaos_s() -> float:
    """How long the mesh is disturbed: CHAOS_S, or by default short enough for every test run."""
    return float(os.environ.get("CHAOS_S", "12"))
