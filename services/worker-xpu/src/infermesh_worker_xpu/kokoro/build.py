"""Builds a model of kind speak in the engine process."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speaking.build import build_speaking
from infermesh_worker_xpu.kokoro.speaker import load_speaker


def build_kokoro(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-xpu, of which "device", "device_index" and "threads" count.

    Raises FailedPrecondition, and ResourceExhausted when it does not fit in the memory.
    """
    manifest = folder.manifest
    chosen = {name: options[name] for name in ("device", "device_index", "threads")}
    return build_speaking(folder.path, manifest, partial(load_speaker, **chosen, weights_bytes=manifest.size_bytes))
