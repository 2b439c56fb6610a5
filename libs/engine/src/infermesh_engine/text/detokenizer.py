"""Turns token ids into text as they arrive, and shows only whole characters."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from functools import partial

from tokenizers import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTEXT_TOKENS = (4, 8, 16, 32)
_LONGEST_CHARACTER = 4
"""Bytes of the longest UTF-8 character, and so the most tokens it can have."""
_MOST_PENDING = 16


class Detokenizer:
    """The text of one output, as the continuation of its prompt: the first word keeps its leading space.

    Special tokens have no text unless they are kept. If the prompt ends inside a character, the rest of that character
    becomes U+FFFD.

    The algorithm is that of tokenizers.decoders.DecodeStream: it decodes the pending tokens together with the last ones
    that were shown. DecodeStream itself (0.23) cannot show an incomplete end, decodes more and more tokens while none
    gives text, and fails for good when byte tokens shown as a character turn out to begin an invalid run
    (vllm-project/vllm issue 17448).
    """

    __slots__ = ("_decode", "_hidden", "_pending", "_shown", "_shown_text")

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_token_ids: Sequence[int],
        *,
        keep_special: bool = False,
        hidden: AbstractSet[int] = frozenset(),
    ) -> None:
        """`keep_special`: special tokens are shown by their names, except those in `hidden`."""
        self._hidden = hidden
        self._decode = partial(tokenizer.decode, skip_special_tokens=False) if keep_special else tokenizer.decode
        self._pending: list[int] = []
        """Tokens that have not been shown yet."""
        self._shown: list[int] = []
        """The tokens shown before them, enough of them that the next ones decode as they do after the whole text."""
        self._shown_text = ""
        for count in _CONTEXT_TOKENS:
            if not self._shown_text:
                self._show([token_id for token_id in prompt_token_ids[-count:] if token_id not in hidden])

    def push(self, token_id: int) -> str:
        """The text that one more token completes; "" while a character is incomplete."""
        if token_id in self._hidden:
            return ""
        self._pending.append(token_id)
        text = self._text_of(self._pending)
        if text and not text.endswith(_REPLACEMENT):
            self._show(self._pending)
            return text
        if len(self._pending) > _MOST_PENDING:
            return self._show_invalid(text)
        return ""

    def flush(self) -> str:
        """The text still pending, with U+FFFD for what is missing. Nothing may be pushed afterwards."""
        text = self._text_of(self._pending)
        self._pending = []
        return text

    def _text_of(self, token_ids: list[int]) -> str:
        """The text of tokens that follow those already shown."""
        text = self._decode(self._shown + token_ids)
        if text.startswith(self._shown_text):
            return text[len(self._shown_text) :]
        return self._decode(token_ids)

    def _show(self, token_ids: list[int]) -> None:
        self._shown, self._pending = token_ids, []
        self._shown_text = self._decode(token_ids)

    def _show_invalid(self, text: str) -> str:
        """Shows the pending tokens once they are too many for one character, except an end that may become one."""
        if not text:
            self._pending = []
            return ""
        for rest in range(_LONGEST_CHARACTER - 1, 0, -1):
            begin, end = self._pending[:-rest], self._pending[-rest:]
            begin_text = self._text_of(begin)
            if begin_text + self._decode(end) == text:
                self._show(begin)
                self._pending = end
                return begin_text
        self._show(self._pending)
        return text
