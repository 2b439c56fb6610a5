"""Owns what the engine process loads: a model folder's torch model, its tokenizer and its end-of-sequence tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.load import load_runner
from infermesh_worker_xpu.options import RunnerOptions


def build(options: Mapping[str, Any]) -> BuiltModel:
    """Loads the model of `options["folder"]`; the other options are RunnerOptions' fields.

    Raises FailedPrecondition when there is no such device, or it cannot run the model so.
    """
    folder = ModelFolder.open(Path(options["folder"]))
    chosen = {name: value for name, value in options.items() if name != "folder"}
    runner = load_runner(folder.path, RunnerOptions(**chosen, context_length=folder.manifest.context_length))
    return BuiltModel(
        runner=runner, tokenizer=folder.load_tokenizer(), eos_token_ids=frozenset(folder.manifest.eos_token_ids)
    )
