"""What transformers' own `generate` makes of a sound, and what our algorithm makes of it, in the same form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpeechConfig, read_speech_config
from infermesh_worker.speech.device import SpeechDevice
from infermesh_worker.speech.features import Features
from infermesh_worker.speech.hearing import Heard, Segment, Wanted
from infermesh_worker.speech.transcriber import Transcriber


@dataclass(frozen=True, slots=True)
class Found:
    """A segment, in a form that can be compared: without the second of the two times that may end it."""

    begin_s: float
    end_s: float
    text_tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reference:
    """A model as transformers has it."""

    model: Any
    extractor: Any
    config: SpeechConfig

    @classmethod
    def load(cls, folder: Path) -> "Reference":
        torch.set_num_threads(1)  # with more, they wait for each other where other tests run
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        return cls(
            transformers.WhisperForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32).eval(),
            transformers.WhisperFeatureExtractor.from_pretrained(str(folder)),
            read_speech_config(folder, tokenizer),
        )

    def features(self, samples: Array) -> Any:
        """[1, mels, frames]; a sound that is shorter than a window is filled up."""
        short = len(samples) <= self.config.window_s * 16_000
        return self.extractor(
            samples,
            sampling_rate=16_000,
            return_tensors="pt",
            truncation=False,
            padding="max_length" if short else "longest",
        ).input_features

    def greedy(self, samples: Array, **options: Any) -> list[Found]:
        """Greedy decoding with times, without fallback; each window goes on from what was said before."""
        answer = self.model.generate(
            self.features(samples),
            return_timestamps=True,
            return_segments=True,
            temperature=0.0,
            condition_on_prev_tokens=True,
            **options,
        )
        return found(answer["segments"][0], self.config, len(samples) / 16_000)


def ours(device: SpeechDevice, folder: Path, samples: Array, **wanted: Any) -> tuple[Heard, list[Segment]]:
    """What our algorithm makes of a sound, greedily and without fallback unless `wanted` says otherwise."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    transcriber = Transcriber(device, read_speech_config(folder, tokenizer), tokenizer)
    segments: list[Segment] = []
    chosen = Wanted(**{"temperatures": (0.0,), **wanted})
    heard = transcriber.transcribe(transcriber.features(samples, lambda: None), chosen, segments.append, lambda: None)
    return heard, segments


def as_found(segments: Sequence[Segment], config: SpeechConfig) -> list[Found]:
    """Our segments in the form that is compared."""
    return [found_in(s.begin_s, s.end_s, s.tokens, config) for s in segments]


def found_in(begin_s: float, end_s: float, tokens: Sequence[int], config: SpeechConfig) -> Found:
    """One of our segments in that form."""
    return Found(begin_s, end_s, _text(tokens, config))


def found(segments: Sequence[Any], config: SpeechConfig, most_s: float) -> list[Found]:
    """Segments of transformers: those that say something, within the sound, as ours are."""
    kept = [(float(s["start"]), float(s["end"]), _text(s["tokens"].tolist(), config)) for s in segments]
    return [
        Found(round(min(begin_s, most_s), 3), round(min(end_s, most_s), 3), text)
        for begin_s, end_s, text in kept
        if text and end_s > begin_s
    ]


def largest_difference(samples: Array, reference: Reference) -> float:
    """Between our features and transformers', over the whole sound."""
    theirs = reference.features(samples)[0].numpy()
    features, window = Features(samples, reference.config), reference.config.window_frames
    return max(
        float(abs(features.window(begin)[:, : theirs.shape[1] - begin] - theirs[:, begin : begin + window]).max())
        for begin in range(0, theirs.shape[1], window)
    )


def _text(tokens: Sequence[int], config: SpeechConfig) -> tuple[int, ...]:
    return tuple(token for token in tokens if token < config.tokens.end)
