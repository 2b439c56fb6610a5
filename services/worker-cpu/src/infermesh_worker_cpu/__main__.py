"""Builds and runs worker-cpu: `python -m infermesh_worker_cpu`."""

import sys
from functools import partial

from infermesh_runtime.settings import load_or_exit
from infermesh_worker.backend import folder_backend
from infermesh_worker.device.machine_part import find_part
from infermesh_worker.main import serve

from .front import footprint
from .settings import WorkerCpuSettings


def main() -> int:
    """Runs the worker until it is told to stop; returns the process's exit status."""
    settings = load_or_exit(WorkerCpuSettings)
    options = {
        "numerics": settings.numerics,
        "threads": settings.threads,
        "kv_cache_dtype": settings.kv_cache_dtype,
        "kv_cache_bytes": int(settings.kv_cache_bytes or 0),
        "max_sequences": settings.max_sequences,
    }
    backend = folder_backend(
        settings,
        build="infermesh_worker_cpu.build:build",
        probe="infermesh_worker_cpu.probe:probe",
        options=options,
        footprint=partial(footprint, settings=settings),
        kinds=("generate", "embed", "rerank", "infer", "transcribe", "speak"),
        part=find_part(settings.cpu_part) if settings.cpu_part else None,
    )
    return serve(settings, backend)


if __name__ == "__main__":
    sys.exit(main())
