"""Owns what the engine process loads: a model folder's OpenVINO graph, its tokenizer and its end-of-sequence tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.loaded_model import LoadedModel
from infermesh_worker.models.model_folder import ModelFolder

from .convert_model import XML
from .runner import OpenVinoRunner, RunnerOptions


def build(options: Mapping[str, Any]) -> LoadedModel:
    """Loads the model of `options["folder"]`; the other options are RunnerOptions' fields.

    Raises FailedPrecondition when the folder holds no OpenVINO graph or one that cannot be served.
    """
    folder = ModelFolder.open(Path(options["folder"]))
    xml = folder.path / "openvino" / XML
    if not xml.exists():
        raise FailedPrecondition(
            f"{folder.path} has no OpenVINO graph: import the model again where worker-cpu is installed",
            reason="MODEL_NOT_CONVERTED",
        )
    chosen = {name: value for name, value in options.items() if name != "folder"}
    runner = OpenVinoRunner(
        xml,
        RunnerOptions(
            **chosen,
            context_length=folder.manifest.context_length,
            weights_bytes=xml.with_suffix(".bin").stat().st_size,
        ),
    )
    return LoadedModel(
        runner=runner, tokenizer=folder.load_tokenizer(), eos_token_ids=frozenset(folder.manifest.eos_token_ids)
    )
