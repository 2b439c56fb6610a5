"""Owns turning token ids into text as they come, whole characters only. Knows no stop conditions and no sampling."""

from collections.abc import Sequence

from tokenizers import Tokenizer

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_CONTEXT_TOKENS = (4, 8, 16, 32)
_LONGEST_CHARACTER = 4
"""Bytes, so at most tokens, of the longest character in UTF-8."""
_MOST_PENDING = 16


class Detokenizer:
    """The text of one output, as the continuation of its prompt: the first word keeps its leading space.

    Special tokens have no text. A prompt that ends inside a character leaves the rest of it to be shown as U+FFFD.

    This is the algorithm of tokenizers.decoders.DecodeStream, which decodes the last tokens that were shown together
    with those that were not. DecodeStream itself (0.23) cannot show an incomplete end, decodes ever more tokens while
    none shows anything, and fails for good when byte tokens that were shown as a character turn out to begin an invalid
    run (vllm-project/vllm issue 17448).
    """

    __slots__ = ("_pending", "_shown", "_shown_text", "_tokenizer")

    def __init__(self, tokenizer: Tokenizer, prompt_token_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._pending: list[int] = []
        """Tokens that are not shown yet."""
        self._shown: list[int] = []
        """Tokens before them, enough that the next ones look as they do after the whole text."""
        self._shown_text = ""
        for count in _CONTEXT_TOKENS:
            if not self._shown_text:
                self._show(list(prompt_token_ids[-count:]))

    def push(self, token_id: int) -> str:
        """The text that is complete after one more token; "" while a character is not."""
        self._pending.append(token_id)
        text = self._text_of(self._pending)
        if text and not text.endswith(_REPLACEMENT):
            self._show(self._pending)
            return text
        if len(self._pending) > _MOST_PENDING:
            return self._show_invalid(text)
        return ""

    def flush(self) -> str:
        """What is still incomplete, with U+FFFD in place of what is missing. Nothing is pushed after it."""
        text = self._text_of(self._pending)
        self._pending = []
        return text

    def _text_of(self, token_ids: list[int]) -> str:
        """The text of tokens that follow the shown ones."""
        text = self._tokenizer.decode(self._shown + token_ids)
        if text.startswith(self._shown_text):
            return text[len(self._shown_text) :]
        return self._tokenizer.decode(token_ids)

    def _show(self, token_ids: list[int]) -> None:
        self._shown, self._pending = token_ids, []
        self._shown_text = self._tokenizer.decode(token_ids)

    def _show_invalid(self, text: str) -> str:
        """Shows more pending tokens than a character has bytes, all but the last that may yet become one."""
        if not text:
            self._pending = []
            return ""
        for rest in range(_LONGEST_CHARACTER - 1, 0, -1):
            begin, end = self._pending[:-rest], self._pending[-rest:]
            begin_text = self._text_of(begin)
            if begin_text + self._tokenizer.decode(end) == text:
                self._show(begin)
                self._pending = end
                return begin_text
        self._show(self._pending)
        return text
