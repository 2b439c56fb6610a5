"""Reads what a folder of Hugging Face's Whisper says of the model: its shape, its special tokens, its languages."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition

HOP, WINDOW, RATE = 160, 400, 16_000
"""Samples between two frames of features, samples of a frame, and samples a second: the same in every Whisper."""
_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")
_MULTILINGUAL = 51_865
"""Tokens in the vocabulary of the first Whisper that knew several languages; those of English alone have fewer."""
_ACTIVATIONS = ("gelu", "gelu_new", "relu", "silu")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """Ids of the tokens that are no text, and which tokens are never written."""

    end: int
    """Ends a text; all tokens below it are text."""
    start: int
    previous: int | None
    """Before what was said earlier."""
    no_speech: int
    no_timestamps: int
    first_time: int
    """0.00 s; each further token is 0.02 s later, up to the last one of the vocabulary."""
    tasks: Mapping[str, int]
    """Of "transcribe" and "translate"; empty for a model of English alone."""
    languages: Mapping[str, int]
    """By ISO 639-1 code; empty for a model of English alone."""
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    """As the first token of a text."""
    latest_first_time: int | None
    """The latest time, in steps of 0.02 s, at which a text may begin; None: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig:
    """A Whisper model."""

    mels: int
    frames: int
    """What the encoder makes of a window: half as many as there are frames of features."""
    positions: int
    """Most tokens of a window, prompt included."""
    vocab_size: int
    hidden_size: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    activation: str
    alignment_heads: tuple[tuple[int, int], ...]
    """(layer, head) of the decoder whose attention tells when a word was said."""
    tokens: SpecialTokens

    @property
    def window_frames(self) -> int:
        """Frames of features in a window."""
        return 2 * self.frames

    @property
    def window_s(self) -> float:
        return self.window_frames * HOP / RATE

    @property
    def multilingual(self) -> bool:
        return bool(self.tokens.languages)


def read_speech_config(folder: Path, tokenizer: Tokenizer) -> SpeechConfig:
    """Reads config.json, generation_config.json and preprocessor_config.json. Raises FailedPrecondition."""
    config = _read(folder / "config.json")
    generation = {**config, **_read(folder / "generation_config.json")}
    _check(config, _read(folder / "preprocessor_config.json"))
    try:
        layers, heads = int(config["decoder_layers"]), int(config["decoder_attention_heads"])
        found = SpeechConfig(
            mels=int(config["num_mel_bins"]),
            frames=int(config["max_source_positions"]),
            positions=int(config["max_target_positions"]),
            vocab_size=int(config["vocab_size"]),
            hidden_size=int(config["d_model"]),
            encoder_layers=int(config["encoder_layers"]),
            decoder_layers=layers,
            encoder_heads=int(config["encoder_attention_heads"]),
            decoder_heads=heads,
            activation=str(config.get("activation_function", "gelu")),
            alignment_heads=_alignment_heads(generation, layers, heads),
            tokens=_special_tokens(generation, tokenizer),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _refusal(f"config.json or generation_config.json is incomplete: {error!r}") from error
    if not 0 < found.tokens.first_time < found.vocab_size or found.positions < 16 or found.frames < 1:
        raise _refusal("config.json does not fit the tokenizer: it leaves no room for times or text")
    return found


def _check(config: Mapping[str, Any], features: Mapping[str, Any]) -> None:
    if config.get("model_type") != "whisper":
        raise _refusal(f"config.json has the model_type {config.get('model_type')!r}; expected 'whisper'")
    if config.get("activation_function", "gelu") not in _ACTIVATIONS:
        raise _refusal(f"config.json has the activation {config['activation_function']!r}")
    if config.get("scale_embedding"):
        raise _refusal("config.json scales embeddings, which no released Whisper does")
    wanted = {
        "hop_length": HOP,
        "n_fft": WINDOW,
        "sampling_rate": RATE,
        "feature_size": config.get("num_mel_bins"),
    }
    for name, value in wanted.items():
        if features.get(name, value) != value:
            raise _refusal(f"preprocessor_config.json has the {name} {features[name]}; expected {value}")


def _special_tokens(generation: Mapping[str, Any], tokenizer: Tokenizer) -> SpecialTokens:
    """The tokens by their names; what generation_config.json says of them comes first."""

    def named(*names: str) -> int:
        found = next((id_ for name in names if (id_ := tokenizer.token_to_id(name)) is not None), None)
        if found is None:
            raise _refusal(f"tokenizer.json has no token {names[0]}")
        return found

    start = named("<|startoftranscript|>")
    no_timestamps = named("<|notimestamps|>")
    languages = {
        match[1]: id_
        for name, id_ in tokenizer.get_vocab(with_added_tokens=True).items()
        if (match := _LANGUAGE.fullmatch(name)) and start < id_ < no_timestamps
    }
    multilingual = bool(languages) and generation.get("is_multilingual", generation["vocab_size"] >= _MULTILINGUAL)
    return SpecialTokens(
        end=named("<|endoftext|>"),
        start=start,
        previous=tokenizer.token_to_id("<|startofprev|>"),
        no_speech=named("<|nospeech|>", "<|nocaptions|>"),
        no_timestamps=no_timestamps,
        first_time=no_timestamps + 1,
        tasks={name: named(f"<|{name}|>") for name in ("transcribe", "translate")} if multilingual else {},
        languages=dict(sorted(languages.items(), key=lambda pair: pair[1])) if multilingual else {},
        suppressed=tuple(int(id_) for id_ in generation.get("suppress_tokens") or ()),
        suppressed_first=tuple(int(id_) for id_ in generation.get("begin_suppress_tokens") or ()),
        latest_first_time=generation.get("max_initial_timestamp_index"),
    )


def _alignment_heads(generation: Mapping[str, Any], layers: int, heads: int) -> tuple[tuple[int, int], ...]:
    """Those that the model names; else all of the upper half of the layers, as OpenAI takes them."""
    named = generation.get("alignment_heads")
    if not named:
        return tuple((layer, head) for layer in range(layers // 2, layers) for head in range(heads))
    found = tuple((int(layer), int(head)) for layer, head in named)
    if any(not 0 <= layer < layers or not 0 <= head < heads for layer, head in found):
        raise _refusal("generation_config.json names alignment heads that the model does not have")
    return found


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(f"{path.name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise _refusal(f"{path.name} is not a JSON object")
    return found


def _refusal(message: str) -> FailedPrecondition:
    return FailedPrecondition(message, reason="MODEL_NOT_SUPPORTED")
