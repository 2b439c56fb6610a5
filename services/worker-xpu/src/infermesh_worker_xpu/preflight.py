"""Says, before a model is loaded, which device is there and how much memory a model will need.

The worker's front process imports this module and must not load torch: only `probe` does, in a process of its own.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.models.footprint import CONFIG, Footprint, kv_token_bytes
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speech.footprint import sounds_bytes
from infermesh_worker_xpu.expected_kind import chosen_kind
from infermesh_worker_xpu.infer.model_files import SUFFIXES, has_onnxruntime
from infermesh_worker_xpu.settings import WorkerXpuSettings

GGUF = "model.gguf"
NAME = "torch"
"""What manifests call this worker where its package could not take a model."""

_PROCESS_BYTES = 1 << 30
"""Memory of torch itself and of one step's working tensors."""
_TENSOR_FACTOR = 2.0
"""Memory of a model of tensors per byte of its files: its weights and its intermediate results."""
_BITS = {"bf16": 16, "fp16": 16, "fp32": 32}
_GGUF_BITS = 5
"""Typical bits a weight in a GGUF file; most safetensors files hold 16."""
_NIBBLE_BITS = 5
"""Bits a weight in 4-bit numbers with their scales."""
_QUANTISED_SHARE = {"none": 1.0, "int8": 0.6, "int4": 0.4}
"""Memory of the quantised weights as a share of bf16 weights; embeddings and output head are not quantised."""
_FORMATS: Mapping[str, Collection[str]] = {
    "infer": tuple(SUFFIXES.values()),
    "embed": ("safetensors", "onnx"),
    "rerank": ("safetensors", "onnx"),
    "transcribe": ("safetensors",),
    "speak": ("onnx",),
}
"""Of the models that generate no text, by kind."""


def probe(options: Mapping[str, Any]) -> DeviceFacts:
    """Describes the devices that the options choose. Raises FailedPrecondition if one does not exist."""
    import torch  # noqa: PLC0415 - the front process must not load it

    from infermesh_worker_xpu import device as devices  # noqa: PLC0415 - imports torch
    from infermesh_worker_xpu.ranks.parts import find_parts, name_devices  # noqa: PLC0415 - same

    indices = options.get("device_indices") or (options["device_index"],)
    device = devices.select(options["device"], indices[0])
    parts = find_parts(device.kind, indices)
    others = [devices.select(device.kind, index) for index in indices[1:] if not device.is_cpu]
    sizes = [each.memory_bytes() for each in (device, *others)]
    return DeviceFacts(
        kind=device.kind,
        name=name_devices(device.kind, indices, parts),
        memory_total_bytes=sum(total for _, total in sizes),
        memory_free_bytes=sum(free for free, _ in sizes),
        runtime=f"torch {torch.__version__}",
    )


def footprint(folder: ModelFolder, settings: WorkerXpuSettings) -> Footprint | None:
    """Estimated memory of a model; None if the folder holds nothing that worker-xpu can run."""
    manifest = folder.manifest
    if not _is_ours(folder):
        return None
    if manifest.kind in {"infer", "speak"}:
        return Footprint(base_bytes=_PROCESS_BYTES + int(_TENSOR_FACTOR * manifest.size_bytes))
    no_cache = manifest.kind in _FORMATS
    if no_cache and manifest.format == "onnx":
        return Footprint(base_bytes=_PROCESS_BYTES + manifest.size_bytes)
    ranks = 1 if no_cache else len(settings.device_indices)
    gguf = not any(folder.path.glob("*.safetensors"))
    precision = "fp32" if settings.numerics == "exact" else settings.dtype
    bits = _BITS.get(precision, 16)
    factor = bits / (_GGUF_BITS if gguf else 16) * _share(settings, bits, gguf=gguf)
    if settings.numerics == "exact" and ranks > 1 and _has_experts(folder):
        factor *= ranks  # experts, most of such a model, are whole on each
    base_bytes = ranks * _PROCESS_BYTES + int(factor * manifest.size_bytes)
    if manifest.kind == "transcribe":
        base_bytes += sounds_bytes(folder.path, bits / 8)
    if no_cache:
        return Footprint(base_bytes=base_bytes)
    element_bytes = _BITS.get(settings.kv_dtype, bits) / 8
    context_bytes = manifest.context_length * kv_token_bytes(folder.path, element_bytes)
    return Footprint(
        base_bytes=base_bytes,
        kv_wanted_bytes=settings.max_sequences * context_bytes,
        kv_least_bytes=context_bytes,
    )


def _share(settings: WorkerXpuSettings, bits: int, *, gguf: bool) -> float:
    """Memory of the weights as a share of weights of `bits`. Processors keep 4-bit numbers beside those.

    Those of GGUF files only if the model is on one device. Where the kind of device is not known: the larger share.
    """
    stored = gguf and settings.quantisation == "none" and len(settings.device_indices) == 1
    kept = settings.quantisation == "int4" or stored
    if kept and chosen_kind(settings.device_kind) == "cpu" and settings.numerics == "fast":
        return 1 + _NIBBLE_BITS / bits
    return _QUANTISED_SHARE[settings.quantisation]


def _has_experts(folder: ModelFolder) -> bool:
    """Whether the model is a mixture of experts, by its config.json; False without one."""
    try:
        config = json.loads((folder.path / CONFIG).read_text(encoding="utf-8"))
        text = config.get("text_config", config)
        return any(name.endswith("_experts") and isinstance(value, int) and value > 1 for name, value in text.items())
    except (OSError, ValueError, AttributeError):
        return False


def _is_ours(folder: ModelFolder) -> bool:
    """Whether worker-xpu reads models of this kind and format, and the import found that it can run this one."""
    manifest = folder.manifest
    formats = _FORMATS.get(manifest.kind)
    if formats is None:
        return any(folder.path.glob("*.safetensors")) or (folder.path / GGUF).is_file()
    runs = manifest.format in formats and (manifest.format != "onnx" or has_onnxruntime())
    return runs and NAME not in manifest.not_for
