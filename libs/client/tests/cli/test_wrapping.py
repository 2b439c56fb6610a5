"""Words that arrive in pieces are wrapped at the terminal's width."""

import re
import textwrap

import pytest

from infermesh_client.cli.chat.wrapping import WordWrapper

TEXT = "A mesh network is a network of interconnected nodes that relay data for each other, without a centre."


def on_screen(sent: str) -> str:
    """What a terminal shows of what it was sent: backspaces, and the erasing of the rest of a line."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[K|.|\n", sent):
        if part == "\n":
            lines.append("")
            column = 0
        elif part == "\b":
            column -= 1
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        else:
            lines[-1] = lines[-1][:column] + part
            column += 1
    return "\n".join(line.rstrip() for line in lines)


def wrapped(text: str, width: int, piece: int) -> str:
    wrapper = WordWrapper(width)
    pieces = [text[start : start + piece] for start in range(0, len(text), piece)]
    return on_screen("".join(map(wrapper.feed, pieces)))


@pytest.mark.parametrize("width", [16, 40, 80, 200])
@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_lines_break_at_words_however_the_text_arrives(width: int, piece: int) -> None:
    assert wrapped(TEXT, width, piece).split("\n") == textwrap.wrap(TEXT, width - 1)


def test_breaks_and_indents_of_the_text_stay() -> None:
    assert wrapped("one\n\n  - two\n", 20, 2) == "one\n\n  - two\n"


def test_every_letter_is_shown_at_once_and_a_long_word_is_left_to_the_terminal() -> None:
    wrapper = WordWrapper(10)
    assert [wrapper.feed(letter) for letter in "so https"] == list("so https")
    assert on_screen("so https" + wrapper.feed("://example.org/a")) == "so\nhttps://example.org/a"
    assert wrapper.feed(" then") == "\nthen"


def test_code_is_not_wrapped() -> None:
    code = "```python\nprint('a long line of code that nobody wants to see broken')\n```\n"
    assert wrapped(code, 20, 4) == code
    assert wrapped(f"{code}one two three four five", 11, 3).removeprefix(code) == "one two\nthree four\nfive"


def test_scripts_without_spaces_are_wrapped_anywhere() -> None:
    lines = wrapped("网状网络是一种网络" * 3, 21, 2).split("\n")
    assert [len(line) for line in lines] == [10, 10, 7]
