"""Makes folders of tiny random Whispers, by hand: no torch is needed. Their windows are a second long."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_runtime.tensors import Array
from tests.text_models.folders import save_tensors

HIDDEN, LAYERS, HEADS, MELS, FRAMES, POSITIONS, INNER = 32, 2, 4, 16, 50, 40, 48
LANGUAGES = ("en", "de", "ja")
TIMES = tuple(f"<|{step * 0.02:.2f}|>" for step in range(FRAMES + 1))


def specials(languages: tuple[str, ...] = LANGUAGES) -> tuple[str, ...]:
    """The special tokens, in the order of their ids."""
    names = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    named = ("endoftext", "startoftranscript", *languages, *names)
    return (*(f"<|{name}|>" for name in named), *TIMES)


def tokenizer(languages: tuple[str, ...] = LANGUAGES) -> Tokenizer:
    """A token for each byte, and some for two."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("Ġ", "a"), ("i", "n")]
    vocabulary = {text: id_ for id_, text in enumerate([*alphabet, *("".join(pair) for pair in pairs)])}
    made = Tokenizer(BPE(vocabulary, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(specials(languages)))
    return made


def tiny_whisper(folder: Path, *, languages: tuple[str, ...] = LANGUAGES, seed: int = 11, **settings: Any) -> Path:
    """A Whisper as transformers saves one. `settings`: of generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tokenizer(languages)
    vocabulary = made.get_vocab()
    ids = {name: vocabulary[f"<|{name}|>"] for name in ("endoftext", "startoftranscript", "notimestamps")}
    made.save(str(folder / "tokenizer.json"))
    vocab_size = made.get_vocab_size()
    _write(folder / "config.json", _config(vocab_size, ids))
    _write(folder / "preprocessor_config.json", _preprocessor())
    _write(folder / "generation_config.json", {**_generation(made, ids, languages), **settings})
    save_tensors(folder / "model.safetensors", weights(vocab_size, seed))
    return folder


def weights(vocab_size: int | None = None, seed: int = 11) -> dict[str, Array]:
    """The tensors of a tiny Whisper; `vocab_size`: None: that of `tokenizer()`."""
    random = np.random.default_rng(seed)
    shapes = _shapes(vocab_size or tokenizer().get_vocab_size())
    return {name: _drawn(random, name, shape) for name, shape in shapes.items()}


def sound(seconds: float, seed: int = 5) -> Array:
    """A sound of changing tones, FP32 of 16 kHz."""
    random = np.random.default_rng(seed)
    steps = np.repeat(random.uniform(100, 3000, int(seconds * 5) + 1), 3200)[: int(seconds * 16_000)]
    loud = np.repeat(random.uniform(0.05, 0.8, int(seconds * 3) + 1), 5334)[: len(steps)]
    made: Array = (loud * np.sin(2 * np.pi * np.cumsum(steps) / 16_000)).astype(np.float32)
    return made


def import_speech(source: Path, root: Path, name: str, **options: Any) -> Manifest:
    """Imports a folder into a models root."""
    view = ProgressView(Console(file=io.StringIO()))
    return import_model(str(source), name, root, view, ImportOptions(home=root.parent, **options))


def _config(vocab_size: int, ids: dict[str, int]) -> dict[str, Any]:
    sizes = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", LAYERS), ("attention_heads", HEADS), ("ffn_dim", INNER))
    }
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "d_model": HIDDEN,
        **sizes,
        "num_hidden_layers": LAYERS,
        "num_mel_bins": MELS,
        "max_source_positions": FRAMES,
        "max_target_positions": POSITIONS,
        "vocab_size": vocab_size,
        "activation_function": "gelu",
        "is_encoder_decoder": True,
        "decoder_start_token_id": ids["startoftranscript"],
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["endoftext"]),
    }


def _preprocessor() -> dict[str, Any]:
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": "WhisperProcessor",
        "chunk_length": FRAMES // 50,
        "feature_size": MELS,
        "hop_length": 160,
        "n_fft": 400,
        "n_samples": FRAMES * 320,
        "nb_max_frames": FRAMES * 2,
        "sampling_rate": 16_000,
        "padding_value": 0.0,
        "padding_side": "right",
    }


def _generation(made: Tokenizer, ids: dict[str, int], languages: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "decoder_start_token_id": ids["startoftranscript"],
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), ids["endoftext"]),
        "no_timestamps_token_id": ids["notimestamps"],
        "prev_sot_token_id": made.token_to_id("<|startofprev|>"),
        "max_length": POSITIONS,
        "max_initial_timestamp_index": 10,
        "suppress_tokens": [3, 4, *range(ids["startoftranscript"], ids["notimestamps"])],
        "begin_suppress_tokens": [5],
        "alignment_heads": [[0, 1], [1, 0], [1, 3]],
        "is_multilingual": bool(languages),
    }
    if languages:
        found["lang_to_id"] = {f"<|{code}|>": made.token_to_id(f"<|{code}|>") for code in languages}
        found["task_to_id"] = {name: made.token_to_id(f"<|{name}|>") for name in ("transcribe", "translate")}
    return found


def _drawn(random: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Norms near 1, and other weights so that each layer changes what goes through it by about as much."""
    drawn = random.standard_normal(shape).astype(np.float32)
    if "layer_norm" in name and name.endswith("weight"):
        return 1 + np.float32(0.1) * drawn
    if len(shape) == 1:
        return np.float32(0.1) * drawn
    if "embed_tokens" in name:
        return np.float32(0.4) * drawn
    if "embed" in name:
        return drawn
    fan = int(np.prod(shape[1:]))
    return drawn * np.float32(1.5 / np.sqrt(fan))


def _shapes(vocab_size: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (HIDDEN, MELS, 3),
        "model.encoder.conv1.bias": (HIDDEN,),
        "model.encoder.conv2.weight": (HIDDEN, HIDDEN, 3),
        "model.encoder.conv2.bias": (HIDDEN,),
        "model.encoder.embed_positions.weight": (FRAMES, HIDDEN),
        "model.decoder.embed_tokens.weight": (vocab_size, HIDDEN),
        "model.decoder.embed_positions.weight": (POSITIONS, HIDDEN),
    }
    for side, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        shapes |= _norm(f"model.{side}.layer_norm")
        for index in range(LAYERS):
            layer = f"model.{side}.layers.{index}"
            for attention in attentions:
                shapes |= {
                    f"{layer}.{attention}.{name}_proj.weight": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "out")
                }
                shapes |= {f"{layer}.{attention}.{name}_proj.bias": (HIDDEN,) for name in ("q", "v", "out")}
                shapes |= _norm(f"{layer}.{attention}_layer_norm")
            shapes |= _norm(f"{layer}.final_layer_norm")
            shapes |= {f"{layer}.fc1.weight": (INNER, HIDDEN), f"{layer}.fc1.bias": (INNER,)}
            shapes |= {f"{layer}.fc2.weight": (HIDDEN, INNER), f"{layer}.fc2.bias": (HIDDEN,)}
    return shapes


def _norm(module: str) -> dict[str, tuple[int, ...]]:
    return {f"{module}.weight": (HIDDEN,), f"{module}.bias": (HIDDEN,)}


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
