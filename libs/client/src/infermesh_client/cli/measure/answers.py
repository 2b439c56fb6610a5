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
_MOST_WORDS = 2000
"""Longest rest of two texts, in words, whose differences are looked for one by one; it takes their product in time."""
_WORDS = re.compile(r"\s+|\S+")


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
            where = f": differs from {name} from token {difference.token + 1} on"
            yield Text.assemble((device, "bold"), (where, "dim"))
            yield Padding(marked(first.text, reply.text, coloured=coloured), (0, 0, 1, _INDENT))


def marked(first: str, second: str, *, coloured: bool) -> Text:
    """The second text; words that only it has are marked as added, those that only the first has as removed."""
    text = Text()
    for kind, words in _parts(_WORDS.findall(first), _WORDS.findall(second)):
        if kind == "both":
            text.append(words)
        elif kind == "added":
            text.append(words if coloured else f"{{+{words}+}}", style="green underline")
        else:
            text.append(words if coloured else f"[-{words}-]", style="red strike")
    return text


def _parts(first: list[str], second: list[str]) -> Iterator[tuple[str, str]]:
    """("both", "removed" or "added", the words)."""
    same = next((i for i, (one, other) in enumerate(zip(first, second, strict=False)) if one != other), None)
    same = min(len(first), len(second)) if same is None else same
    yield "both", "".join(first[:same])
    first, second = first[same:], second[same:]
    if max(len(first), len(second)) > _MOST_WORDS:
        yield "added", "".join(second)
        return
    for kind, i, i_end, j, j_end in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            yield "both", "".join(second[j:j_end])
            continue
        if i < i_end:
            yield "removed", "".join(first[i:i_end])
        if j < j_end:
            yield "added", "".join(second[j:j_end])
