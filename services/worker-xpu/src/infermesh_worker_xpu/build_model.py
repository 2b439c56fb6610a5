"""Builds a model in the engine process from a model folder: torch runner, tokenizer and end-of-sequence tokens."""

from collections.abc import Mapping
from typing import Any

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.building import open_for_build
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions


def build_model(options: Mapping[str, Any]) -> BuiltModel:
    """Loads the model in `options["folder"]`; the other options are "verify" and the fields of TorchOptions.

    Raises FailedPrecondition if the device does not exist or cannot run the model with these options.
    """
    folder, chosen = open_for_build(options)
    torch_options = TorchOptions(**chosen, context_length=folder.manifest.context_length)
    runner = load_runner(folder.path, torch_options, folder.manifest.images)
    return BuiltModel(
        runner=runner,
        tokenizer=folder.load_tokenizer(),
        eos_token_ids=frozenset(folder.manifest.eos_token_ids),
        name=folder.manifest.name,
        folder=folder.path,
        prepare_image=runner.prepare_image,
    )
