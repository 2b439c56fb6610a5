"""Builds a runner from a folder of weights: picks the device, loads the model, chooses attention and graphs."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.attention import triton_attention
from infermesh_worker_xpu.attention.exact import ExactKernels
from infermesh_worker_xpu.attention.kernels import AttentionKernels
from infermesh_worker_xpu.attention.sdpa import SdpaKernels
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.execution import graphs
from infermesh_worker_xpu.execution.exactness import ensure_exact
from infermesh_worker_xpu.execution.runner import RunnerFacts, TorchRunner
from infermesh_worker_xpu.loading import compiling, ipex, rope, weights
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.sharding.group import ALONE, Group

if TYPE_CHECKING:
    from infermesh_runtime.manifest.image_facts import ImageFacts
    from infermesh_worker_xpu.vision.tower import VisionTower

_log = logging.getLogger(__name__)


def load_runner(
    folder: Path, options: TorchOptions, images: "ImageFacts | None" = None, group: Group = ALONE
) -> TorchRunner:
    """Loads the weights in a folder, which needs no manifest. Raises FailedPrecondition if the options do not work.

    `images`: how the model reads images; None: it takes none. `group`: the ranks that share the model; each loads and
    runs its part on the device of its options.
    """
    device = devices.select(options.device, options.device_index)
    if options.numerics == "exact":
        _check_exact(device)
        options = replace(options, dtype="fp32")
    torch.set_num_threads(options.threads or machine.usable_processors())
    model = weights.load(folder, device, device.dtype(options.dtype), options, sees=images is not None, group=group)
    most = options.max_batched_tokens
    vision = _open_tower(model, folder, images, most) if images is not None else None
    options = _within_positions(model, options)
    if group.size > 1:  # neither has been tried with the ranks' sums between the layers' parts
        options = replace(options, graphs="off", compile="off")
    extension = "" if group.size > 1 else _extend(model, device, options)
    attention, kernels = choose_kernels(device, options)
    new_pool = _choose_graphs(device, attention, options)
    compiled = _compile(model, compiling.why_not_compiled(device, options, captured=new_pool is not None))
    facts = RunnerFacts(attention, weights.size_bytes(model), extension, compiled)
    runner = TorchRunner(model, device, kernels, options, facts, new_pool=new_pool, vision=vision, group=group)
    if options.numerics == "exact":
        ensure_exact(runner)
    return runner


def choose_kernels(device: TorchDevice, options: TorchOptions) -> tuple[str, AttentionKernels]:
    """Name and kernels of the attention that the options ask for; auto: the fastest that runs on the device.

    Raises FailedPrecondition if the options ask for Triton and it cannot run on the device.
    """
    if options.numerics == "exact":
        return "exact", ExactKernels()
    if options.attention == "sdpa" or (options.attention == "auto" and device.is_cpu):
        return "sdpa", SdpaKernels()
    usable = triton_attention.available(device.handle)
    if usable:
        return "triton", triton_attention
    if options.attention == "triton":
        raise FailedPrecondition(
            f"INFERMESH_ATTENTION=triton cannot run here: {usable.reason}", reason="TRITON_NOT_AVAILABLE"
        )
    _log.warning("attention runs without Triton, which is slow", extra={"reason": usable.reason})
    return "sdpa", SdpaKernels()


def _within_positions(model: PreTrainedModel, options: TorchOptions) -> TorchOptions:
    longest = rope.fix_frequencies(model)
    if longest is None or longest >= options.context_length:
        return options
    _log.warning(
        "the context is shorter than the model's: its positions change beyond the length of its first training",
        extra={"context_length": longest, "model_context_length": options.context_length},
    )
    return replace(options, context_length=longest)


def _extend(model: PreTrainedModel, device: TorchDevice, options: TorchOptions) -> str:
    """If IPEX is installed, it optimises the model. Returns its name and version, or "" if it is not used."""
    if options.numerics == "exact" or options.quantisation != "none":
        return ""
    return ipex.optimise(model, device=device.handle, dtype=model.dtype).runtime


def _choose_graphs(device: TorchDevice, attention: str, options: TorchOptions) -> graphs.GraphPool | None:
    reason = graphs.why_not_captured(device, attention, options)
    if reason:
        _log.info("decode steps run without graphs", extra={"reason": reason})
        return None
    return partial(graphs.graph_maker, device)


def _compile(model: PreTrainedModel, why_not: str) -> bool:
    compiled = not why_not and compiling.compile_layers(model)
    if not compiled:
        _log.info("layers run without torch.compile", extra={"reason": why_not or "torch.compile failed"})
    return compiled


def _check_exact(device: TorchDevice) -> None:
    if not device.is_cpu:
        raise FailedPrecondition(
            f"INFERMESH_NUMERICS=exact runs on the CPU only, and this device is {device.kind} ({device.name}).",
            reason="NUMERICS_NOT_SUPPORTED",
        )


def _open_tower(model: PreTrainedModel, folder: Path, images: "ImageFacts", most_tokens: int) -> "VisionTower":
    from infermesh_worker_xpu.vision.tower import open_tower  # noqa: PLC0415 - gpu.py runs without what images need

    return open_tower(model, folder, images, max_batched_tokens=most_tokens)
