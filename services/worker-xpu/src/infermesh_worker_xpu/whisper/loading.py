"""Loads Whisper from a Hugging Face folder onto a device."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import WhisperForConditionalGeneration

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.loading_report import check_loaded
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.loading.checkpoint import check_quantisation
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions


def load(folder: Path, device: TorchDevice, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    """Loads the model. Raises FailedPrecondition for one that cannot be served, or does not fit."""
    if not any(folder.glob("*.safetensors")):
        raise FailedPrecondition(
            f"{folder} holds no weights that worker-xpu reads: expected *.safetensors", reason="MODEL_NOT_SUPPORTED"
        )
    check_quantisation(folder)
    try:
        model = _from_pretrained(folder, dtype)
        model.requires_grad_(requires_grad=False)
        model.train(mode=False)
        torch.nn.Module.to(model, device.handle)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FailedPrecondition(
            f"The model does not fit in the memory of {device.name}. torch says: {error}", reason="OUT_OF_MEMORY"
        ) from error
    return model


def precision(device: TorchDevice, options: TorchOptions) -> torch.dtype:
    """As the settings say; auto on an accelerator is fp16, which Whisper was trained in and bf16 is coarser than."""
    if options.numerics == "exact":
        return torch.float32
    if options.dtype == "auto" and not device.is_cpu:
        return torch.float16
    return device.dtype(options.dtype)


def _from_pretrained(folder: Path, dtype: torch.dtype) -> WhisperForConditionalGeneration:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (ValueError, KeyError, OSError, RuntimeError, ImportError) as error:
        raise FailedPrecondition(
            f"transformers {transformers.__version__} cannot load {folder}: {error}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    model: WhisperForConditionalGeneration
    model, report = loaded
    check_loaded(report)
    return model
