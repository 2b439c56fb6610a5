"""Loads a model folder's weights onto a device: a transformers model, or the decoder of a GGUF file."""

import logging
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.loading_report import check_loaded
from infermesh_worker_xpu.attention import layers as attention
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.loading import exact_experts, merging, nibble_linear, packing, quantisation
from infermesh_worker_xpu.loading.checkpoint import check_quantisation
from infermesh_worker_xpu.loading.fidelity import check_fidelity
from infermesh_worker_xpu.loading.gguf_parts import GgufCut
from infermesh_worker_xpu.loading.nibble_linear import NibbleLinear
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.sharding.cut import cut
from infermesh_worker_xpu.sharding.group import ALONE, Group
from infermesh_worker_xpu.sharding.loading import read_parts, skeleton
from infermesh_worker_xpu.sharding.plan import Plan, heads_of

GGUF = "model.gguf"

_log = logging.getLogger(__name__)


def load(
    folder: Path,
    device: TorchDevice,
    dtype: torch.dtype,
    options: TorchOptions,
    *,
    sees: bool = False,
    group: Group = ALONE,
) -> PreTrainedModel:
    """Loads safetensors, or dequantises GGUF, onto the device, and registers paged attention.

    `sees`: with its vision model. `group`: the ranks that share the model, of which each loads its part.

    Raises FailedPrecondition if the folder holds neither, if its weights are not all there or are not what the model's
    configuration describes, or if the model cannot run with these options, and InvalidArgument for a GGUF file that
    says what we do not know.
    """
    attention.register()
    exact_experts.register()
    quantisation.check(options.quantisation, device, dtype)
    try:
        model = _on_device(folder, device, dtype, options, sees=sees, group=group)
        model.requires_grad_(requires_grad=False)
        model.train(mode=False)
        if options.numerics == "fast":  # exact numerics test and run the layers unmerged
            _log.info("layers merged", extra={"layers": merging.merge(model)})
        else:
            exact_experts.make_exact(model)
        quantisation.quantise(model, options.quantisation, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise FailedPrecondition(
            f"The model does not fit in the memory of {device.name}. Use a smaller model or a device with more memory. "
            f"torch says: {error}",
            reason="OUT_OF_MEMORY",
        ) from error
    if device.is_cpu:
        _log.info("weights packed", extra={"layers": packing.pack(model, few_rows=options.numerics == "fast")})
    return model


def size_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights as loaded, each counted once."""
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    kinds = packing.PackedLinear, NibbleLinear
    packed = sum(module.nbytes for module in model.modules() if isinstance(module, kinds))
    return packed + sum(tensor.nbytes for tensor in tensors.values())


def _on_device(
    folder: Path, device: TorchDevice, dtype: torch.dtype, options: TorchOptions, *, sees: bool, group: Group
) -> PreTrainedModel:
    """The model on the device, from safetensors if there are any, else from GGUF."""
    if not any(folder.glob("*.safetensors")) and (folder / GGUF).is_file():
        exact = options.numerics == "exact"
        experts = exact_experts.IMPLEMENTATION if exact else "grouped_mm"
        from infermesh_worker_xpu.gguf_decoder import decoder  # noqa: PLC0415 - other folders need no package gguf

        keeps = device.is_cpu and options.numerics == "fast" and options.quantisation == "none" and group.size == 1
        keeps = keeps and nibble_linear.has_kernel(dtype)
        part = GgufCut(group, exact=exact) if group.size > 1 else None
        return decoder.load(folder / GGUF, device.handle, dtype, experts, cut=part, keeps_nibbles=keeps)
    model = _from_pretrained(folder, device, dtype, options, sees=sees, group=group)
    attention.check_layers(model)
    nn.Module.to(model, device.handle)
    check_fidelity(model, options.context_length)
    return model


def _from_pretrained(
    folder: Path, device: TorchDevice, dtype: torch.dtype, options: TorchOptions, *, sees: bool, group: Group
) -> PreTrainedModel:
    if not any(folder.glob("*.safetensors")):
        raise FailedPrecondition(
            f"{folder} holds no weights that worker-xpu reads: expected *.safetensors or {GGUF}.",
            reason="MODEL_NOT_SUPPORTED",
        )
    check_quantisation(folder)
    exact = options.numerics == "exact"
    chosen: dict[str, Any] = {"experts_implementation": exact_experts.IMPLEMENTATION} if exact else {}
    plan: Plan = {}
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
        own = {"text_config": attention.IMPLEMENTATION, "vision_config": "sdpa"}
        if group.size > 1:
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
            plan, parts = read_parts(skeleton(kind, config), device, group, exact=exact)
            chosen |= parts
        loaded: Any = kind.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation=own if sees else attention.IMPLEMENTATION,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **chosen,
        )
    except (ValueError, KeyError, OSError, RuntimeError, ImportError, NotImplementedError) as error:
        raise FailedPrecondition(
            f"transformers {transformers.__version__} cannot load {folder}: {error}", reason="MODEL_NOT_SUPPORTED"
        ) from error
    model: PreTrainedModel
    model, report = loaded
    check_loaded(report)
    if plan:
        cut(model, plan, heads_of(model.config.get_text_config()), group, exact=exact)
    return model
