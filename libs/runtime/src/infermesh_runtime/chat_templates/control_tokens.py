"""Keeps apart the control tokens that a template writes and the same letters in what users wrote.

Users' texts are marked before they are rendered: a private character before and after each control token written out in
them, and two beside an end that could be a part of one. It is chosen so that nobody wrote it. What the template writes
has no mark, so its tokens are known afterwards, however it cut and joined the texts; then the marks are removed.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infermesh_runtime.errors import InvalidArgument

_MARKS = range(0xE000, 0xF900)
"""Unicode's private characters of two bytes in UTF-16, so that JSON escapes each as one."""
_MARKUP = re.compile(r"[<\[{|｜【].+[>\]}|｜】]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a prompt."""

    pieces: tuple[str, ...]
    """Text, control token of the template, text, …, text. One piece: the text can be tokenised as it is."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def control_set(literals: Iterable[str], special: Iterable[str], added: Iterable[str]) -> frozenset[str]:
    """The control tokens: the special ones, and other added ones that look like markup and that the template writes.

    `literals`: what the template writes. `added`: tokens that are recognised in text without being special.
    """
    written = "\0".join(literals)
    return frozenset([*special, *(token for token in added if _MARKUP.fullmatch(token) and token in written)])


class ControlTokens:
    """The control tokens of one model, and how texts are marked for them."""

    def __init__(self, literals: Iterable[str], special: Sequence[str], added: Sequence[str]) -> None:
        """The arguments are those of `control_set`."""
        self._special = _Matcher(special)
        self._all = _Matcher(control_set(literals, special, added))

    def choose_mark(self, conversation: Any, source: str) -> str | None:
        """A character that occurs nowhere; None when nothing needs to be marked. Raises InvalidArgument."""
        if not any(map(self._all.may_meet, strings_in(conversation))):
            return None
        written = json.dumps(conversation, ensure_ascii=False) + source
        escaped = written.lower()
        for number in _MARKS:
            if chr(number) not in written and f"\\u{number:04x}" not in escaped:
                return chr(number)
        raise InvalidArgument("cannot keep special tokens apart in a conversation with every private character")

    def mark_message(self, message: Mapping[str, Any], mark: str) -> dict[str, Any]:
        """A message whose texts are marked. What an assistant wrote may have tokens that are not special: its own."""
        tokens = self._special if message.get("role") == "assistant" else self._all
        return {key: value if key == "role" else tokens.mark(value, mark) for key, value in message.items()}

    def mark(self, value: Any, mark: str) -> Any:
        """A JSON value with its texts marked."""
        return self._all.mark(value, mark)

    def unmark(self, text: str, mark: str) -> Rendered:
        """The text without marks, cut at the template's own tokens if it must be."""
        text = text.replace(f"\\u{ord(mark):04x}", mark)  # a template may escape it with tojson
        pieces, own_tokens, end, size = [""], [], 0, 0
        # two marks first: the template's own token between two ends must not look like one that a user wrote
        for match in re.finditer(f"{mark}{mark}|{mark}({self._all.pattern}){mark}|({self._all.pattern})|{mark}", text):
            written, own = match.groups()
            gained = text[end : match.start()] + (written or "")
            pieces[-1] += gained
            end, size = match.end(), size + len(gained)
            if own:
                own_tokens.append((size, own))
                pieces += [own, ""]
                size += len(own)
        pieces[-1] += text[end:]
        plain = "".join(pieces)
        same = [(match.start(), match.group()) for match in self._all.expression.finditer(plain)] == own_tokens
        return Rendered((plain,)) if same else Rendered(tuple(pieces))


class _Matcher:
    """Finds tokens in texts, the longest one first, as tokenizers do."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = frozenset(filter(None, tokens))
        self.pattern = _alternatives(self.tokens)
        self.expression = re.compile(self.pattern)
        markup = [token for token in self.tokens if _MARKUP.fullmatch(token)]
        self._begins = frozenset(token[:end] for token in markup for end in range(1, len(token)))
        self._ends = frozenset(token[begin:] for token in markup for begin in range(1, len(token)))
        self._longest = max(map(len, markup), default=0)

    def may_meet(self, text: str) -> bool:
        """Whether a text holds a token, or begins or ends with a part of one."""
        return bool(self.expression.search(text)) or self._begins_inside(text) or self._ends_inside(text)

    def mark(self, value: Any, mark: str) -> Any:
        """The value with the texts in it marked, at any depth; keys of objects too."""
        return map_strings(value, lambda text: self._mark_text(text, mark))

    def _mark_text(self, text: str, mark: str) -> str:
        marked = self.expression.sub(lambda match: f"{mark}{match.group()}{mark}", text)
        before = 2 * mark if self._begins_inside(text) else ""
        after = 2 * mark if self._ends_inside(text) else ""
        return f"{before}{marked}{after}"

    def _begins_inside(self, text: str) -> bool:
        return any(text[:size] in self._ends for size in range(1, min(len(text) + 1, self._longest)))

    def _ends_inside(self, text: str) -> bool:
        return any(text[-size:] in self._begins for size in range(1, min(len(text) + 1, self._longest)))


def strings_in(value: Any) -> list[str]:
    """All texts in a JSON value."""
    found: list[str] = []
    map_strings(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed, the keys of objects as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): map_strings(item, change) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [map_strings(item, change) for item in value]
    return value


def _alternatives(tokens: Iterable[str]) -> str:
    """A regular expression of all tokens that tries each character once: thousands of tokens begin alike."""
    tree: dict[str, Any] = {}
    for token in tokens:
        node = tree
        for character in token:
            node = node.setdefault(character, {})
        node[""] = {}
    return _expression(tree) if tree else "(?!)"


def _expression(tree: Mapping[str, Any]) -> str:
    """Of a tree of characters. Runs of single children are joined, so that it is nested only where tokens part."""
    options = []
    for character, below in tree.items():
        if not character:
            continue
        run, node = re.escape(character), below
        while len(node) == 1 and "" not in node:
            ((character, node),) = node.items()  # noqa: PLW2901
            run += re.escape(character)
        options.append(run if list(node) == [""] else run + _expression(node))
    if not options:
        return ""
    joined = f"(?:{'|'.join(options)})"
    return f"{joined}?" if "" in tree else joined
