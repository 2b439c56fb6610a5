"""Builds a model of tensors in the engine process, from a model folder or, for an import, from its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infermesh_runtime import machine
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.manifest.model_kind import ALONE
from infermesh_runtime.manifest.model_manifest import ModelFormat
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.tensor_models.files import graph_file
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.infer.exported import load_exported
from infermesh_worker_xpu.infer.model_files import SUFFIXES, check_onnxruntime
from infermesh_worker_xpu.infer.torch_executor import TorchExecutor
from infermesh_worker_xpu.infer.torchscript import load_torchscript
from infermesh_worker_xpu.memory_errors import is_out_of_memory

if TYPE_CHECKING:
    from infermesh_worker_xpu.infer.onnx_executor import OnnxExecutor


def build_infer(folder: ModelFolder, options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds the model. `options`: those of worker-xpu, of which "device", "device_index" and "threads" count.

    Raises FailedPrecondition if the device does not exist or the model cannot be served, InvalidArgument for a damaged
    file, and ResourceExhausted when it does not fit in the memory.
    """
    manifest = folder.manifest
    limits = manifest.batching or ALONE
    executor = make_executor(
        graph_file(folder.path, manifest, SUFFIXES),
        manifest.format,
        devices.select(options["device"], options["device_index"]),
        threads=options["threads"],
        batched=limits.max_size > 1,
        weights_bytes=manifest.size_bytes,
    )
    return BuiltExecutor(
        executor=executor,
        kind="infer",
        name=manifest.name,
        inputs=executor.inputs,
        outputs=executor.outputs,
        limits=limits,
    )


def make_executor(
    graph: Path,
    model_format: ModelFormat,
    device: TorchDevice,
    *,
    threads: int,
    batched: bool,
    weights_bytes: int,
) -> "TorchExecutor | OnnxExecutor":
    """An executor of a model's file. Raises as build_infer does."""
    threads = threads or machine.usable_processors()
    if model_format == "onnx":
        return _onnx(graph, device, threads=threads, batched=batched, weights_bytes=weights_bytes)
    torch.set_num_threads(threads)
    load = load_exported if model_format == "pt2" else load_torchscript
    try:
        program = load(graph, device.handle)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceExhausted(f"there is too little memory for {graph.name}", reason="OUT_OF_MEMORY") from error
    return TorchExecutor(program, device, batched=batched, weights_bytes=weights_bytes)


def _onnx(graph: Path, device: TorchDevice, *, threads: int, batched: bool, weights_bytes: int) -> "OnnxExecutor":
    check_onnxruntime(graph)
    from infermesh_worker_xpu.infer.onnx_executor import OnnxExecutor  # noqa: PLC0415 - imports an optional package
    from infermesh_worker_xpu.infer.providers import open_session  # noqa: PLC0415 - imports an optional package

    opened = open_session(graph, device.kind, device.handle.index or 0, threads)
    return OnnxExecutor(opened, device, batched=batched, weights_bytes=weights_bytes)
