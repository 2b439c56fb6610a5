"""Loads an encoder, or a decoder that embeds, from a Hugging Face folder onto a device."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.loading_report import check_loaded
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.loading.checkpoint import check_quantisation
from infermesh_worker_xpu.memory_errors import is_out_of_memory

_POOLER = "pooler."
"""A part of some encoders that vectors do not go through, so it may be missing."""


def load(folder: Path, device: TorchDevice, dtype: torch.dtype, *, scores: bool) -> PreTrainedModel:
    """Loads the model; `scores`: with its head. Raises FailedPrecondition for one that cannot be served."""
    if not any(folder.glob("*.safetensors")):
        raise FailedPrecondition(
            f"{folder} holds no weights that worker-xpu reads: expected *.safetensors", reason="MODEL_NOT_SUPPORTED"
        )
    check_quantisation(folder)
    try:
        model = _from_pretrained(folder, dtype, scores=scores)
        model.requires_grad_(requires_grad=False)
        model.train(mode=False)
        torch.nn.Module.to(model, device.handle)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FailedPrecondition(
            f"The model does not fit in the memory of {device.name}. torch says: {error}", reason="OUT_OF_MEMORY"
        ) from error
    if scores and model.config.num_labels != 1:
        raise FailedPrecondition(
            f"its head has {model.config.num_labels} outputs; a model that scores has one", reason="MODEL_NOT_SUPPORTED"
        )
    return model


def size_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights as loaded, each counted once."""
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in model.parameters()}.values())


def context_length(model: PreTrainedModel, stated: int) -> int:
    """How many tokens the model can read: as many as stated, and as its table of positions has rows for."""
    limits = [stated]
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, torch.nn.Embedding):
            padding = getattr(module, "padding_idx", None)
            limits.append(table.num_embeddings - (0 if table.padding_idx is None else (padding or 0) + 1))
    most = getattr(model.config, "max_position_embeddings", None)
    return min([*limits, most] if most else limits)


def _from_pretrained(folder: Path, dtype: torch.dtype, *, scores: bool) -> PreTrainedModel:
    kind = AutoModelForSequenceClassification if scores else AutoModel
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        loaded: Any = kind.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError, RuntimeError, ImportError, NotImplementedError) as error:
        raise FailedPrecondition(
            f"transformers {transformers.__version__} cannot load {folder}: {error}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    model: PreTrainedModel
    model, report = loaded
    check_loaded(_without_heads(report))
    return model


def _without_heads(report: Mapping[str, Collection[Any]]) -> dict[str, Collection[Any]]:
    """The report without what does not matter: heads in the files that are not used, and a missing pooler."""
    missing = [name for name in report.get("missing_keys", ()) if not str(name).startswith(_POOLER)]
    return {"missing_keys": missing, "error_msgs": report.get("error_msgs", ())}
