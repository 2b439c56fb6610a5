"""Builds a model of kind embed or rerank in the engine process: a Hugging Face folder, or an ONNX export."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infermesh_runtime import machine
from infermesh_runtime.manifest.model_kind import RERANK, ModelKind
from infermesh_runtime.manifest.text_encoder import EncoderFacts
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.executors.text_executor import built_text_model
from infermesh_worker.models.encoder_export import export_graph
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.encoders.encoder import TorchEncoder
from infermesh_worker_xpu.encoders.loading import context_length, load
from infermesh_worker_xpu.infer.model_files import check_onnxruntime
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from infermesh_worker_xpu.encoders.onnx_encoder import OnnxEncoder

_MOST_TOKENS = {"cpu": 4096}
_ACCELERATOR_TOKENS = 16384
"""In a batch, padding included; an accelerator needs more to be busy."""


def build_encoder(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: fields of TorchOptions. Raises FailedPrecondition."""
    manifest = folder.manifest
    encoder = load_encoder(folder.path, manifest.kind, TorchOptions(**options), manifest.context_length)
    facts = manifest.encoder or EncoderFacts()
    return built_text_model(
        encoder,
        kind=manifest.kind,
        name=manifest.name,
        most_tokens=_MOST_TOKENS.get(encoder.info.device_kind, _ACCELERATOR_TOKENS),
        activation=facts.activation,
    )


def load_encoder(
    folder: Path, kind: ModelKind, options: TorchOptions, stated_length: int
) -> "TorchEncoder | OnnxEncoder":
    """Loads the model in a folder, as imported or before. Raises FailedPrecondition."""
    device = devices.select(options.device, options.device_index)
    threads = options.threads or machine.usable_processors()
    if not any(folder.glob("*.safetensors")):
        return _onnx(folder, device, scores=kind == RERANK, context_length=stated_length, threads=threads)
    torch.set_num_threads(threads)
    dtype = device.dtype("fp32" if options.numerics == "exact" else options.dtype)
    model = load(folder, device, dtype, scores=kind == RERANK)
    return TorchEncoder(model, device, context_length=context_length(model, stated_length))


def _onnx(folder: Path, device: TorchDevice, *, scores: bool, context_length: int, threads: int) -> "OnnxEncoder":
    check_onnxruntime(export_graph(folder))
    from infermesh_worker_xpu.encoders.onnx_encoder import OnnxEncoder  # noqa: PLC0415 - imports an optional package

    return OnnxEncoder(folder, device, scores=scores, context_length=context_length, threads=threads)
