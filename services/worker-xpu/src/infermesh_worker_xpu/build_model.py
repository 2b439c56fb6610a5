"""Builds a model in the engine process from a model folder: torch runner, tokenizer and end-of-sequence tokens."""

from collections.abc import Mapping
from typing import Any

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.building import open_for_build
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks.leader import RanksRunner, load_ranks


def build_model(options: Mapping[str, Any]) -> BuiltModel:
    """Loads the model in `options["folder"]`; the other options are "verify" and the fields of TorchOptions.

    Raises FailedPrecondition if the device does not exist or cannot run the model with these options.
    """
    folder, chosen = open_for_build(options)
    indices = tuple(chosen.pop("device_indices", ()))
    torch_options = TorchOptions(**chosen, device_indices=indices, context_length=folder.manifest.context_length)
    runner = _load(folder, torch_options)
    return BuiltModel(
        runner=runner,
        tokenizer=folder.load_tokenizer(),
        eos_token_ids=frozenset(folder.manifest.eos_token_ids),
        name=folder.manifest.name,
        folder=folder.path,
        prepare_image=runner.prepare_image,
    )


def _load(folder: ModelFolder, options: TorchOptions) -> TorchRunner | RanksRunner:
    images = folder.manifest.images
    if len(options.device_indices) < 2:
        return load_runner(folder.path, options, images)
    if images is not None:
        raise FailedPrecondition(
            f"{folder.manifest.name!r} takes images, and such models run on one device: name only one in "
            "INFERMESH_DEVICE_INDEX.",
            reason="MODEL_NOT_SUPPORTED",
        )
    return load_ranks(folder.path, options)
