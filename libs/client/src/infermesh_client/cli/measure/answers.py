"""Shows the answers of several devices to one prompt, one after the other, with what differs from the first marked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.text import Text

from infermesh_client.bench.agreement import first_difference
from infermesh_client.cli.measure.lanes import Lanes

_INDENT = 2
_MOST_WORDS = 500
"""Longest rest of two texts, in words, whose differences are looked for one by one. Prose takes milliseconds, but time
grows with the cube of the words where every second word is the same: 500 of them take half a second."""
_WORDS = re.compile(r"\s+|\S+\s*")
"""Words with the blanks after them: blanks alone are so many that to match them takes long."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The first answer of each device. Marks are colours on a terminal, and elsewhere {+ +} and [- -], as in git."""

    lanes: Lanes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        coloured = console.color_system is not None
        (name, (first, *_)), *others = self.lanes.items()
        yield Text.assemble((name, "bold"))
        yield Padding(Text(first.text), (0, 0, 1, _INDENT))
        for device, (reply, *_) in others:
            difference = first_difference(first, reply)
            if difference is None:
                yield Text.assemble((device, "bold"), (f": the same as {name}, to the last token", "dim"))
                continue
            if first.text == reply.text:
                same = f": the texts are the same, made of other tokens than those of {name}"
                yield Text.assemble((device, "bold"), (same, "dim"))
                continue
            where = f": differs from {name} from token {difference.token + 1} on"
            yield Text.assemble((device, "bold"), (where, "dim"))
            yield Padding(marked(first.text, reply.text, coloured=coloured), (0, 0, 1, _INDENT))


def marked(first: str, second: str, *, coloured: bool) -> Text:
    """The second text; words that only it has are marked as added, those that only the first has as removed."""
    text = Text()
    for kind, words in _parts(first, second):
        if kind == "both":
            text.append(words)
        elif kind == "added":
            text.append(words if coloured else f"{{+{words}+}}", style="green underline")
        else:
            text.append(words if coloured else f"[-{words}-]", style="red strike")
    return text


def _parts(first: str, second: str) -> Iterator[tuple[str, str]]:
    """("both", "removed" or "added", the words)."""
    same = _same_beginning(first, second)
    yield "both", first[:same]
    old, new = _WORDS.findall(first[same:]), _WORDS.findall(second[same:])
    if max(len(old), len(new)) > _MOST_WORDS:
        yield "added", "".join(new)
        return
    for kind, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "both", "".join(new[j:j_end])
            continue
        if i < i_end:
            yield "removed", "".join(old[i:i_end])
        if j < j_end:
            yield "added", "".join(new[j:j_end])


def _same_beginning(first: str, second: str) -> int:
    """How many characters of whole words both begin with. A text that ends there has the word whole."""
    pairs = enumerate(zip(first, second, strict=False))
    same = next((i for i, (one, other) in pairs if one != other), min(len(first), len(second)))
    if all(not rest or rest.isspace() for rest in (first[same : same + 1], second[same : same + 1])):
        return same
    words = _WORDS.findall(first[:same])
    return same if not words or words[-1][-1].isspace() else same - len(words[-1])
