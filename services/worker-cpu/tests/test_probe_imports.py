"""The process that asks about the device imports little, so that a worker starts sooner."""

import subprocess
import sys


def test_the_probe_imports_nothing_of_the_front() -> None:
    code = "import sys, infermesh_worker.device.device_probe, infermesh_worker_cpu.probe; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "infermesh_worker_cpu.probe" in imported
    assert {"grpc", "numpy", "openvino", "pydantic"}.isdisjoint(imported)
