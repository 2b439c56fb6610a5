"""Refuses checkpoints that no worker reads: quantised weights, own code, adapters, models that do not write text."""

from collections.abc import Collection, Mapping
from typing import Any

from infermesh_runtime.errors import InvalidArgument

_QUANTISED_FILES = {
    "hf_quant_config.json": "NVIDIA ModelOpt",
    "quantize_config.json": "GPTQ",
    "quant_config.json": "AWQ",
}
"""Files beside config.json in which some tools write how they quantised the weights."""

_METHODS = {
    "fp8": "FP8",
    "fbgemm_fp8": "FP8",
    "awq": "AWQ",
    "gptq": "GPTQ",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
    "mxfp4": "MXFP4",
    "modelopt": "NVIDIA ModelOpt",
}
_DECODERS = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
"""Parts of the names of transformers' classes for models that write text."""
_OTHERWISE = "import the model that it was made from (weights in F32, F16 or BF16), or a GGUF file of it"

_WITHOUT_OWN_CODE = frozenset(
    {
        "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "ernie4_5", "ernie4_5_moe", "exaone4", "falcon", "gemma",
        "gemma2", "gemma3", "gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neox", "granite", "granitemoe",
        "hunyuan_v1_dense", "llama", "minimax", "ministral", "mistral", "mixtral", "mpt", "nemotron", "olmo", "olmo2",
        "olmo3", "olmoe", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3",
        "stablelm", "starcoder2",
    }
)  # fmt: skip
"""Model types that transformers itself knows: code that comes with such a model is older, and is not needed."""


def check_checkpoint(config: Mapping[str, Any], names: Collection[str], place: str) -> None:
    """Checks config.json and the names of the files beside it.

    Raises InvalidArgument that names the quantisation, the model's own code, or what kind of model it is instead.
    """
    if (kind := _other_kind(config)) is not None:
        raise InvalidArgument(
            f"{place} is {kind}, not a model that continues text token by token or turns texts into vectors or scores"
        )
    if method := quantisation_of(config, names):
        raise InvalidArgument(f"{place} holds weights quantised with {method}, which no worker reads; {_OTHERWISE}")
    auto_map = config.get("auto_map")
    if auto_map and config.get("model_type") not in _WITHOUT_OWN_CODE:
        code = next(iter(auto_map.values()), "") if isinstance(auto_map, dict) else auto_map
        raise InvalidArgument(
            f"{place} needs Python code that comes with the model (auto_map in config.json names {code!s}), and "
            "infermesh never runs such code; import a GGUF file of the model, or one whose type transformers knows"
        )


def _other_kind(config: Mapping[str, Any]) -> str | None:
    """What a model is that is no decoder of text, by its architectures; None for a decoder, or where none are named."""
    named = config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    if config.get("is_encoder_decoder") is True:
        return f"an encoder with a decoder ({names[0] if names else config.get('model_type')})"
    known = config.get("model_type") in _WITHOUT_OWN_CODE
    if not names or any(part in name for name in names for part in _DECODERS):
        return None
    return None if known and any(name.endswith("Model") for name in names) else f"a {names[0]}"


def quantisation_of(config: Mapping[str, Any], names: Collection[str]) -> str:
    """The name of the method by which the weights were quantised; "" if they were not."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            if described := part.get(key):
                method = str(described.get("quant_method") or "") if isinstance(described, dict) else ""
                default = "compressed-tensors" if key == "compression_config" else "an unknown method"
                return _METHODS.get(method, method or default)
    return next((method for name, method in _QUANTISED_FILES.items() if name in names), "")
