"""Finds when the words of a window were said, and how sure the model is of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker.speech.device import SpeechSession
from infermesh_worker.speech.segments import TIME_STEP_FRAMES, TIME_STEP_S, Part
from infermesh_worker.speech.word_times.alignment import token_frames
from infermesh_worker.speech.word_times.spelling import Spelling

_STOPS = frozenset(".。!！?？")
_BEFORE = "\"'“¿([{-"
_AFTER = "\"'.。,，!！?？:：”)]}、"
_TYPICAL_S = 0.7
"""No typical word is taken to be longer than this."""
_TRUSTED_S = 0.5
"""Where a segment's own time and its first or last word's differ by more, the segment's is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidWord:
    """A word with the space before it and the punctuation around it, and when it was said."""

    text: str
    tokens: tuple[int, ...]
    begin_s: float
    """From the beginning of the window."""
    end_s: float
    probability: float
    """Mean of its tokens, punctuation left out."""


def said_words(
    session: SpeechSession,
    config: SpeechConfig,
    spelling: Spelling,
    parts: Sequence[Part],
    *,
    prompt: Sequence[int],
    language: str,
    frames: int,
) -> list[list[SaidWord]]:
    """The words of each part of the window that the session has listened to, as OpenAI's whisper/timing.py finds them.

    `prompt`: the tokens that say language and task. `frames`: of features that have sound.
    """
    texts = [spelling.text_tokens(part.tokens) for part in parts]
    room = config.positions - len(prompt) - 2
    text = [token for tokens in texts for token in tokens][:room]
    if not text:
        return [[] for _ in parts]
    logits, scores = session.align([*prompt, config.tokens.no_timestamps, *text, config.tokens.end])
    first = len(prompt)
    chances = _probabilities(logits[first : first + len(text), : config.tokens.end], text)
    begins_s = token_frames(scores[:, first:-1], frames // TIME_STEP_FRAMES) * TIME_STEP_S
    words, place = [], 0
    for word in spelling.words(text, language):
        end = place + len(word.tokens)
        words.append(
            SaidWord(
                text=word.text,
                tokens=word.tokens,
                begin_s=float(begins_s[place]),
                end_s=float(begins_s[end]),
                probability=float(chances[place:end].mean()),
            )
        )
        place = end
    typical_s = _typical(words)
    words = with_punctuation(_shortened(words, typical_s))
    return [_within(said, part, typical_s) for said, part in zip(_shared_out(words, texts), parts, strict=True)]


def with_punctuation(words: Sequence[SaidWord]) -> list[SaidWord]:
    """Joins punctuation with the word that it belongs to: an opening quote with the next, a full stop with the last."""
    joined: list[SaidWord] = []
    held: list[SaidWord] = []
    for word in words:
        if word.text.startswith(" ") and word.text.strip() and word.text.strip() in _BEFORE:
            held.append(word)
        elif not held and joined and not joined[-1].text.endswith(" ") and word.text in _AFTER:
            joined[-1] = _joined([joined[-1], word], joined[-1])
        else:
            joined.append(_joined([*held, word], word))
            held = []
    return [*joined, *held]


def _joined(words: Sequence[SaidWord], timed: SaidWord) -> SaidWord:
    """Several words as one, said when `timed` was."""
    tokens = tuple(token for word in words for token in word.tokens)
    return replace(timed, text="".join(word.text for word in words), tokens=tokens)


def _typical(words: Sequence[SaidWord]) -> float:
    """How long a word takes, in seconds."""
    lengths = [word.end_s - word.begin_s for word in words if word.end_s > word.begin_s]
    return min(_TYPICAL_S, float(np.median(lengths))) if lengths else 0.0


def _shortened(words: Sequence[SaidWord], typical_s: float) -> list[SaidWord]:
    """The words, without the pauses that seem to belong to those at the end and the beginning of a sentence."""
    found = list(words)
    for place in range(1, len(found)):
        word = found[place]
        if word.end_s - word.begin_s <= 2 * typical_s:
            continue
        if word.text in _STOPS:
            found[place] = replace(word, end_s=word.begin_s + 2 * typical_s)
        elif found[place - 1].text in _STOPS:
            found[place] = replace(word, begin_s=word.end_s - 2 * typical_s)
    return found


def _shared_out(words: Sequence[SaidWord], texts: Sequence[Sequence[int]]) -> list[list[SaidWord]]:
    """The words of each part, whose text tokens are given; a word belongs to the part in which it begins."""
    shared: list[list[SaidWord]] = []
    place = done = bound = 0
    for tokens in texts:
        bound += len(tokens)
        first = place
        while place < len(words) and done < bound:
            done += len(words[place].tokens)
            place += 1
        shared.append(list(words[first:place]))
    return shared


def _within(words: list[SaidWord], part: Part, typical_s: float) -> list[SaidWord]:
    """The words of a part, the first and the last of which do not reach far beyond it."""
    if not words:
        return []
    first = words[0]
    if part.begin_s < first.end_s and part.begin_s - _TRUSTED_S > first.begin_s:
        words[0] = replace(first, begin_s=max(0.0, min(first.end_s - typical_s, part.begin_s)))
    last = words[-1]
    if part.end_s > last.begin_s and part.end_s + _TRUSTED_S < last.end_s:
        words[-1] = replace(last, end_s=max(last.begin_s + typical_s, part.end_s))
    return words


def _probabilities(logits: Array, tokens: Sequence[int]) -> Array:
    """The probability of each token among all of text: [tokens]."""
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances: Array = shares[np.arange(len(tokens)), list(tokens)] / shares.sum(axis=-1)
    return chances
