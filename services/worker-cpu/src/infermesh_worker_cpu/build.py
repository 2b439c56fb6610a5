"""Builds a model of any kind in the engine process, as its manifest says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.building import open_for_build
from infermesh_worker.models.catalog import FOLDER_OPTION

from .build_model import build_model
from .encoders.build import build_encoder
from .infer.build import build_infer
from .kokoro.build import build_kokoro
from .whisper.build import build_speech


def build(options: Mapping[str, Any]) -> BuiltModel | BuiltExecutor:
    """Builds the model in `options["folder"]`. Raises FailedPrecondition when it cannot be served."""
    kind = read_manifest(Path(options[FOLDER_OPTION])).kind
    if kind == "speak":
        return build_kokoro(*open_for_build(options))
    if kind == "infer":
        return build_infer(*open_for_build(options))
    if kind in {"embed", "rerank"}:
        return build_encoder(*open_for_build(options))
    if kind == "transcribe":
        return build_speech(*open_for_build(options))
    return build_model(options)
