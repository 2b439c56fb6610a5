"""Builds a model of kind speak in the engine process."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speaking.build import build_speaking

from .speaker import load_speaker


def build_kokoro(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-cpu, of which "threads" counts.

    Raises FailedPrecondition, and ResourceExhausted when it does not fit in the memory.
    """
    manifest = folder.manifest
    load = partial(load_speaker, threads=options["threads"], weights_bytes=manifest.size_bytes, folder=folder.path)
    return build_speaking(folder.path, manifest, load)
