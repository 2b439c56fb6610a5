"""Builds a model of any kind in the engine process, as its manifest says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.building import open_for_build
from infermesh_worker.models.catalog import FOLDER_OPTION
from infermesh_worker_xpu.build_model import build_model


def build(options: Mapping[str, Any]) -> BuiltModel | BuiltExecutor:
    """Builds the model in `options["folder"]`. Raises FailedPrecondition when it cannot be served."""
    kind = read_manifest(Path(options[FOLDER_OPTION])).kind
    if kind == "speak":
        from infermesh_worker_xpu.kokoro.build import build_kokoro  # noqa: PLC0415 - other models do not need it

        return build_kokoro(*open_for_build(options))
    if kind == "infer":
        from infermesh_worker_xpu.infer.build import build_infer  # noqa: PLC0415 - models of text do not need it

        return build_infer(*open_for_build(options))
    if kind in {"embed", "rerank"}:
        from infermesh_worker_xpu.encoders.build import build_encoder  # noqa: PLC0415 - other models do not need it

        return build_encoder(*open_for_build(options))
    if kind == "transcribe":
        from infermesh_worker_xpu.whisper.build import build_speech  # noqa: PLC0415 - same

        return build_speech(*open_for_build(options))
    return build_model(options)
