"""What the front process knows before a model is loaded: how much memory it will take.

Does not import openvino, which only engine processes load.
"""

from infermesh_worker.models.footprint import Footprint, kv_token_bytes
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.speech.footprint import sounds_bytes

from .infer.model_files import SUFFIXES
from .settings import WorkerCpuSettings
from .soft_cap.folders import has_soft_cap

WEIGHTS = "openvino/openvino_model.bin"
"""Weights file, beside the graph that convert_model writes."""

NAME = "openvino"
"""What manifests call this worker where its package could not take a model."""
_PROCESS_BYTES = 320 << 20
"""Resident memory of an engine process without its weights, once it has run: code, tokenizer, scratch memory."""
_WEIGHTS_FACTOR = 1.25
"""Resident memory per byte of weights: the plugin repacks them for its kernels (0.45 GB in all for 110 MB)."""
_VOICE_FACTOR = 7.0
"""The same for Kokoro, which computes in 32 bits with weights of 16, and whose sounds are long (1.4 GB for 163 MB)."""
_TENSOR_FACTOR = 2.0
"""The same for a model that does not generate text, whose intermediate results count too."""
_SPEECH_FACTOR = 2.8
"""The same for Whisper, whose weights are mostly of 16 bits and are computed with in 32 (0.72 GB in all for 145 MB)."""
_FLOAT_BYTES = 4
_ELEMENT_BYTES = {"u8": 1.125, "f16": 2.0, "f32": 4.0}
"""Size of a number in the KV cache; u8 includes a scale and a zero point for each head."""


def footprint(folder: ModelFolder, settings: WorkerCpuSettings) -> Footprint | None:
    """Memory that a model will take; None for one that this worker cannot run: its import could not convert it."""
    manifest = folder.manifest
    if manifest.kind != "generate" and NAME in manifest.not_for:
        return None
    if manifest.kind == "infer" and manifest.format not in SUFFIXES.values():
        return None
    if manifest.kind == "speak":
        return Footprint(base_bytes=_PROCESS_BYTES + int(_VOICE_FACTOR * manifest.size_bytes))
    if manifest.kind != "generate":
        sounds = manifest.kind == "transcribe"
        base_bytes = _PROCESS_BYTES + int((_SPEECH_FACTOR if sounds else _TENSOR_FACTOR) * manifest.size_bytes)
        return Footprint(base_bytes=base_bytes + (sounds_bytes(folder.path, _FLOAT_BYTES) if sounds else 0))
    weights = folder.path / WEIGHTS
    if not weights.is_file():
        return None
    dtype = "f32" if settings.numerics == "exact" else settings.kv_cache_dtype
    element_bytes = _ELEMENT_BYTES["f16" if dtype == "u8" and has_soft_cap(folder.path) else dtype]
    context_bytes = folder.manifest.context_length * kv_token_bytes(folder.path, element_bytes)
    return Footprint(
        base_bytes=_PROCESS_BYTES + int(_WEIGHTS_FACTOR * weights.stat().st_size),
        kv_wanted_bytes=settings.max_sequences * context_bytes,
        kv_least_bytes=context_bytes,
    )
