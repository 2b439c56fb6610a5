"""Turns the tokens of one choice into the text to show, and decides when a stop condition ends it."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tokenizers import Tokenizer

from infermesh_engine.requests.output import FinishReason
from infermesh_engine.requests.request import StopConditions, TextOptions
from infermesh_engine.text.detokenizer import Detokenizer
from infermesh_engine.text.stop_buffer import Released, StopBuffer

_DEFAULTS = TextOptions()


@dataclass(frozen=True, slots=True)
class TextOut:
    """The text that one token releases, and whether the output ends."""

    text: str
    """Whole characters that cannot be the beginning of a stop string."""
    finish_reason: FinishReason | None = None
    """STOP, or None while the output goes on."""
    stop: str = ""
    """The stop string, or the text of the stop token, that ended it; "" after an end-of-sequence token."""


class SequenceText:
    """The text of one choice: checks for stop tokens, decodes, then looks for stop strings.

    End-of-sequence tokens, stop tokens and stop strings count only after the first min_tokens tokens; a stop string
    must lie wholly in the text after them.
    """

    __slots__ = (
        "_count",
        "_detokenizer",
        "_eos_token_ids",
        "_min_tokens",
        "_options",
        "_stop_buffer",
        "_stop_token_ids",
        "_tokenizer",
    )

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        stop: StopConditions,
        eos_token_ids: AbstractSet[int],
        options: TextOptions = _DEFAULTS,
        *,
        special_token_ids: AbstractSet[int] = frozenset(),
    ) -> None:
        """`special_token_ids`: all of the tokenizer's; needed only if the options show some of them."""
        self._tokenizer = tokenizer
        self._options = options
        shows_some = bool(options.shown_token_ids) and not options.keep_special_tokens
        self._detokenizer = Detokenizer(
            tokenizer,
            prompt_token_ids,
            keep_special=options.keep_special_tokens or shows_some,
            hidden=special_token_ids - frozenset(options.shown_token_ids) if shows_some else frozenset(),
        )
        self._stop_buffer = StopBuffer(stop.strings, keep_stop=options.keep_stop)
        self._stop_token_ids = frozenset(stop.token_ids)
        self._eos_token_ids = frozenset() if stop.ignore_eos else eos_token_ids
        self._min_tokens = stop.min_tokens
        self._count = 0

    def push(self, token_id: int) -> TextOut:
        """Takes the next token, sampled or replayed. Nothing may be pushed after a finish_reason."""
        may_stop = self._count >= self._min_tokens
        self._count += 1
        if may_stop and (token_id in self._stop_token_ids or token_id in self._eos_token_ids):
            return self._end(token_id)
        text = self._detokenizer.push(token_id)
        if not text or not may_stop:
            return TextOut(text)
        released = self._stop_buffer.push(text)
        if released.stop is None:
            return TextOut(released.text)
        return TextOut(released.text, FinishReason.STOP, released.stop)

    def flush(self) -> Released:
        """The text held back for an incomplete character or stop string, now that the output ends anyway."""
        released = self._stop_buffer.push(self._detokenizer.flush())
        if released.stop is not None:
            return released
        rest = self._stop_buffer.flush()
        return Released(released.text + rest.text, rest.stop)

    def _end(self, token_id: int) -> TextOut:
        """Ends the output with a token that shows no text, and releases what was held back before it."""
        rest = self.flush()
        stop, text = rest.stop or "", rest.text
        if not stop and token_id in self._stop_token_ids:
            stop = self._tokenizer.decode([token_id], skip_special_tokens=False)
            if self._options.keep_stop:
                text += stop
        return TextOut(text, FinishReason.STOP, stop)
