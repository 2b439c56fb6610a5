"""The processes that a worker starts do not import what only its front needs, so they start sooner."""

import subprocess
import sys

import pytest

FRONT = {"grpc", "prometheus_client", "pydantic"}


@pytest.mark.parametrize(
    ("modules", "foreign"),
    [
        ("infermesh_worker.device.device_probe, infermesh_worker.testing.simulated_probe", FRONT | {"numpy"}),
        ("infermesh_worker.engine_process.process, infermesh_worker.testing.simulated_engine", FRONT),
    ],
)
def test_a_process_imports_what_it_needs(modules: str, foreign: set[str]) -> None:
    command = [sys.executable, "-c", f"import sys, {modules}; print(*sys.modules)"]
    imported = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "infermesh_worker" in imported
    assert foreign.isdisjoint(imported)
