"""Lets bash complete words with colons, such as addresses: it splits them there, and typer does not join them."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def whole_words() -> Iterator[None]:
    """Where bash asks for completions, whole words are completed, and bash gets what follows their last colon."""
    if os.environ.get("_INFERMESH_COMPLETE") != "complete_bash":
        yield
        return
    words, current = join_words(os.environ["COMP_WORDS"].split("\n"), int(os.environ["COMP_CWORD"]))
    os.environ.update(COMP_WORDS="\n".join(words), COMP_CWORD=str(current))
    before, colon, _ = words[current].rpartition(":") if current < len(words) else ("", "", "")
    offered = io.StringIO()
    try:
        with redirect_stdout(offered):
            yield
    finally:
        for line in offered.getvalue().splitlines():
            sys.stdout.write(line.removeprefix(before + colon) + "\n")


def join_words(split: list[str], current: int) -> tuple[list[str], int]:
    """The words as the user wrote them, and the index of the one that has the word `current` of the split ones."""
    words: list[str] = []
    place = current  # of a word that is not there yet, after the last one
    for index, word in enumerate(split):
        if index > 1 and word and (word.startswith(":") or words[-1].endswith(":")):
            words[-1] += word
        else:
            words.append(word)
        if index == current:
            place = len(words) - 1
    return words, min(place, len(words))
