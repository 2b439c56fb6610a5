"""Goes through a sound window by window; each one begins where the last finished segment ended."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from infermesh_worker.speech.config import HOP, RATE, SpeechConfig
from infermesh_worker.speech.device import SpeechSession
from infermesh_worker.speech.features import Features
from infermesh_worker.speech.hearing import Segment, Wanted
from infermesh_worker.speech.rules import TokenRules
from infermesh_worker.speech.segments import Part, cut
from infermesh_worker.speech.window import WindowWriter, Writing, compression_ratio
from infermesh_worker.speech.word_times.spelling import Spelling
from infermesh_worker.speech.word_times.words import SaidWord, said_words

_CONDITIONED_UP_TO = 0.5
"""What was written at a higher temperature is not what the next window is told was said before."""


class LongForm:
    """The way through one sound."""

    def __init__(
        self,
        session: SpeechSession,
        config: SpeechConfig,
        spelling: Spelling,
        features: Features,
        wanted: Wanted,
        *,
        start: Sequence[int],
        language: str,
        pulse: Callable[[], None],
    ) -> None:
        """`session` has listened to the first window. `start`: the tokens that say language and task."""
        rules = TokenRules(config.tokens, config.vocab_size)
        self._writer = WindowWriter(
            session,
            tokens=config.tokens,
            rules=rules,
            positions=config.positions,
            decode=spelling.decode,
            pulse=pulse,
        )
        self._session = session
        self._config = config
        self._spelling = spelling
        self._features = features
        self._wanted = wanted
        self._start = start
        self._language = language
        self._pulse = pulse
        self._index = 0
        self._said_s = 0.0
        """When the last word ended."""
        self.written = 0
        """Tokens of the windows so far."""

    def segments(self, before: Sequence[int]) -> Iterator[Segment]:
        """The segments, each as soon as it is known. `before`: tokens of what counts as said before."""
        history, place = list(before), 0
        while place < self._features.frames:
            if place:
                self._pulse()
                self._session.encode(self._features.window(place))
            frames = self._features.length(place)
            writing = self._writer.write(self._prompt(history), self._wanted.temperatures, [self._wanted.seed, place])
            self.written += len(writing.tokens)
            if writing.silent:
                place += frames
                continue
            found = cut(writing.tokens, self._config.tokens.first_time, frames)
            parts = [part for part in found.parts if self._says_something(part)]
            yield from self._finished(parts, place, frames, writing)
            history += [token for part in parts for token in part.tokens]
            if writing.temperature > _CONDITIONED_UP_TO:
                history = []
            place += found.frames

    def _prompt(self, history: Sequence[int]) -> list[int]:
        previous = self._config.tokens.previous
        if not history or previous is None:
            return list(self._start)
        return [previous, *history[-(self._config.positions // 2 - 1) :], *self._start]

    def _says_something(self, part: Part) -> bool:
        return part.end_s > part.begin_s and bool(self._spelling.decode(part.tokens).strip())

    def _finished(self, parts: Sequence[Part], place: int, frames: int, writing: Writing) -> Iterator[Segment]:
        """The segments of a window that begins at frame `place`."""
        begin_s, end_s = place * HOP / RATE, self._features.seconds
        said: Sequence[Sequence[SaidWord]] = [() for _ in parts]
        if self._wanted.words:
            self._pulse()
            said = said_words(
                self._session,
                self._config,
                self._spelling,
                parts,
                prompt=self._start,
                language=self._language,
                frames=frames,
            )
        for part, words in zip(parts, said, strict=True):
            text = self._spelling.decode(part.tokens)
            yield Segment(
                index=self._index,
                begin_s=round(min(begin_s + part.begin_s, end_s), 3),
                end_s=round(min(begin_s + part.end_s, end_s), 3),
                text=text,
                tokens=part.tokens,
                compression_ratio=compression_ratio(text),
                writing=writing,
                words=tuple(self._in_order(word, begin_s, end_s) for word in words),
            )
            self._index += 1

    def _in_order(self, word: SaidWord, begin_s: float, most_s: float) -> SaidWord:
        """A word of a window that begins at `begin_s`, not before the last one, nor after the end of the sound."""
        first_s = round(min(max(self._said_s, begin_s + word.begin_s), most_s), 3)
        self._said_s = round(min(max(first_s, begin_s + word.end_s), most_s), 3)
        return replace(word, begin_s=first_s, end_s=self._said_s)
