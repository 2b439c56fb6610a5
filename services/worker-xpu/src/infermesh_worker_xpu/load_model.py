"""Loads a model folder in the engine process: the torch runner, the tokenizer, the end-of-sequence tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infermesh_worker.engine_process.loaded_model import LoadedModel
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions


def load_model(options: Mapping[str, Any]) -> LoadedModel:
    """Loads the model in `options["folder"]`; the other options are the fields of TorchOptions.

    Raises FailedPrecondition if the device does not exist or cannot run the model with these options.
    """
    folder = ModelFolder.open(Path(options["folder"]))
    chosen = {name: value for name, value in options.items() if name != "folder"}
    runner = load_runner(folder.path, TorchOptions(**chosen, context_length=folder.manifest.context_length))
    return LoadedModel(
        runner=runner, tokenizer=folder.load_tokenizer(), eos_token_ids=frozenset(folder.manifest.eos_token_ids)
    )
