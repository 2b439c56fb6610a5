"""Builds and runs worker-xpu: `python -m infermesh_worker_xpu`."""

import os
import sys
from functools import partial

from infermesh_runtime.settings import load_or_exit
from infermesh_worker.backend import folder_backend
from infermesh_worker.main import serve
from infermesh_worker_xpu.preflight import footprint
from infermesh_worker_xpu.settings import WorkerXpuSettings


def main() -> int:
    """Runs the worker until it is told to stop; returns the process's exit status."""
    settings = load_or_exit(WorkerXpuSettings)
    # The engine process inherits this, and its OpenMP reads it once. OpenMP's threads spin by default while they wait;
    # as soon as anything else runs on the machine, they take the processor from the thread that they wait for.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    options = {
        "device": settings.device_kind,
        "device_index": settings.device_indices[0],
        "device_indices": settings.device_indices,
        "dtype": settings.dtype,
        "kv_dtype": settings.kv_dtype,
        "quantisation": settings.quantisation,
        "memory_utilisation": settings.memory_utilisation,
        "attention": settings.attention,
        "graphs": settings.graphs,
        "compile": settings.compile,
        "sampling": settings.sampling,
        "numerics": settings.numerics,
        "threads": settings.threads,
        "kv_cache_bytes": int(settings.kv_cache_bytes or 0),
        "max_sequences": settings.max_sequences,
        "max_batched_tokens": settings.max_batched_tokens,
    }
    backend = folder_backend(
        settings,
        build="infermesh_worker_xpu.build:build",
        probe="infermesh_worker_xpu.preflight:probe",
        options=options,
        footprint=partial(footprint, settings=settings),
        kinds=("generate", "embed", "rerank", "infer", "transcribe", "speak"),
        takes_images=True,
    )
    return serve(settings, backend)


if __name__ == "__main__":
    sys.exit(main())
