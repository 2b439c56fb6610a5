"""Tiny vision-language models with random weights, as transformers saves them, with tokenizer and chat template."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from infermesh_client.model_import.describing.facts import read_facts
from infermesh_runtime.manifest.model_manifest import Manifest, hash_file, write_manifest

Processor = Callable[[str, Sequence[Image.Image]], Mapping[str, Any]]
"""Makes a model's inputs of a rendered text and its images."""

CONTEXT = 512
VOCAB = 320
"""Bytes, special tokens, and a few rows that no token has."""
END = "<|im_end|>"
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
SPECIAL = {
    "smolvlm": [END, "<image>", "<fake_token_around_image>", "<global-img>", *TILES],
    "qwen2_5_vl": [END, "<|im_start|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>"],
    "gemma3": [END, "<start_of_turn>", "<start_of_image>", "<image_soft_token>", "<end_of_image>"],
}
SPECIAL["idefics3"] = SPECIAL["smolvlm"]
_IMAGE = {
    "idefics3": "<image>",
    "smolvlm": "<image>",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "<start_of_image>",
}
TEXT: Mapping[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 256,
}


def template(family: str) -> str:
    """A chat template that writes parts one by one."""
    return (
        "{% for message in messages %}{{ message['role'] }}:{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + _IMAGE[family] + "{% else %}{{ part['text'] }}{% endif %}"
        "{% endfor %}" + END + "\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )


def tokenizer(family: str) -> Tokenizer:
    """Bytes, runs of two newlines, and the family's special tokens from id 256 on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL[family])
    return made


def picture(seed: int, width: int = 40, height: int = 24, kind: str = "PNG") -> bytes:
    """An image file of random coarse colours."""
    noise = torch.randint(0, 256, (5, 7, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(noise.numpy()).resize((width, height), Image.Resampling.BICUBIC).save(file, kind)
    return file.getvalue()


def save(family: str, folder: Path) -> tuple[Any, Processor]:
    """Writes a model folder; returns transformers' model and what makes its inputs."""
    torch.manual_seed(11)
    config, images = _MAKERS[family](tokenizer(family))
    model: Any = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) * 0.15)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.15)
    model.save_pretrained(folder)
    images.save_pretrained(folder)
    tokenizer(family).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END, "pad_token": "!"}))
    (folder / "chat_template.jinja").write_text(template(family))
    _write_manifest(family, folder)
    return model, _processor(family, folder, images)


def _write_manifest(family: str, folder: Path) -> None:
    facts, files = read_facts(folder, "safetensors"), {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            files[path.name] = hash_file(file)
    manifest = Manifest(
        name=family,
        source="test",
        format="safetensors",
        context_length=facts.context_length,
        eos_token_ids=(256,),
        bos_token_id=None,
        size_bytes=1,
        created=datetime.now(UTC),
        images=facts.images,
        files=files,
    )
    write_manifest(folder, manifest)


def _processor(family: str, folder: Path, images: Any) -> Processor:
    fast: Any = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), eos_token=END, pad_token="!")
    if family in {"smolvlm", "idefics3"}:  # SmolVLM's own needs packages for video; Idefics3's writes the same tokens
        return _called(transformers.Idefics3Processor(images, fast, image_seq_len=4))
    if family == "qwen2_5_vl":
        return partial(_process_grid, images, fast)
    for name, token in (("boi", "<start_of_image>"), ("eoi", "<end_of_image>"), ("image", "<image_soft_token>")):
        setattr(fast, f"{name}_token", token)
        setattr(fast, f"{name}_token_id", fast.convert_tokens_to_ids(token))
    return _called(transformers.Gemma3Processor(images, fast, image_seq_length=16))


def _called(processor: Any) -> Processor:
    return lambda text, images: processor(text=[text], images=images or None, return_tensors="pt")


def _process_grid(images: Any, fast: Any, text: str, shown: Sequence[Image.Image]) -> Mapping[str, Any]:
    """What Qwen2_5_VLProcessor does, which cannot be made without packages for video."""
    prepared = dict(images(images=list(shown), return_tensors="pt")) if shown else {}
    begin, *rest = text.split("<|image_pad|>")
    for grid, after in zip(prepared.get("image_grid_thw", ()), rest, strict=True):
        begin += "<|image_pad|>" * int(grid.prod() // images.merge_size**2) + after
    encoded = fast([begin], return_tensors="pt")
    seen = (encoded["input_ids"] == fast.convert_tokens_to_ids("<|image_pad|>")).int()
    return {**encoded, **prepared, "mm_token_type_ids": seen}


def _tiles(family: str, tokens: Tokenizer) -> tuple[Any, Any]:
    vision = {**_VISION, "image_size": 16, "patch_size": 4}
    config = transformers.AutoConfig.for_model(
        family,
        text_config={"model_type": "llama", **TEXT},
        vision_config=vision,
        scale_factor=2,
        image_token_id=tokens.token_to_id("<image>"),
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return config, SmolVLMImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})


def _qwen(tokens: Tokenizer) -> tuple[Any, Any]:
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    config = transformers.AutoConfig.for_model(
        "qwen2_5_vl",
        text_config={**TEXT, "rope_parameters": rope},
        vision_config=vision,
        image_token_id=tokens.token_to_id("<|image_pad|>"),
        video_token_id=tokens.token_to_id("<|video_pad|>"),
        vision_start_token_id=tokens.token_to_id("<|vision_start|>"),
        vision_end_token_id=tokens.token_to_id("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    return config, Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=64 * 40)


def _gemma(tokens: Tokenizer) -> tuple[Any, Any]:
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    text = {**TEXT, "sliding_window": 12, "layer_types": layers, "query_pre_attn_scalar": 16}
    config = transformers.AutoConfig.for_model(
        "gemma3",
        text_config=text,
        vision_config={**_VISION, "image_size": 32, "patch_size": 4, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=16,
        image_token_index=tokens.token_to_id("<image_soft_token>"),
        boi_token_index=tokens.token_to_id("<start_of_image>"),
        eoi_token_index=tokens.token_to_id("<end_of_image>"),
        tie_word_embeddings=False,
    )
    return config, Gemma3ImageProcessorPil(size={"height": 32, "width": 32})


_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_MAKERS: Mapping[str, Callable[[Tokenizer], tuple[Any, Any]]] = {
    "smolvlm": partial(_tiles, "smolvlm"),
    "idefics3": partial(_tiles, "idefics3"),
    "qwen2_5_vl": _qwen,
    "gemma3": _gemma,
}
