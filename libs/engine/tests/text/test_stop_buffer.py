"""Stop strings are found however the text is cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_engine.text.stop_buffer import Released, StopBuffer

letters = st.text(alphabet="abé", max_size=30)
strings = st.lists(st.text(alphabet="abé", min_size=1, max_size=5), max_size=4)


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in pairwise(edges)]


def first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    found = [(text.index(stop), len(stop), stop) for stop in stops if stop in text]
    return (text[: min(found)[0]], min(found)[2]) if found else (text, None)


@given(text=letters, places=st.lists(st.integers(0, 30), max_size=30), stops=strings)
def test_any_cutting_releases_the_text_up_to_the_first_stop_string(
    text: str, places: list[int], stops: list[str]
) -> None:
    buffer = StopBuffer(stops)
    shown, met = "", None
    for piece in cut(text, places):
        released = buffer.push(piece)
        shown += released.text
        if released.stop is not None:
            met = released.stop
            break
    else:
        rest = buffer.flush()
        shown, met = shown + rest.text, rest.stop
    assert (shown, met) == first_stop(text, stops)


@given(text=letters, stops=strings)
def test_text_is_released_as_soon_as_it_cannot_begin_a_stop_string(text: str, stops: list[str]) -> None:
    buffer = StopBuffer(stops)
    shown = ""
    for i, letter in enumerate(text):
        released = buffer.push(letter)
        shown += released.text
        if released.stop is not None:
            return
        held = text[len(shown) : i + 1]
        assert not held or any(stop.startswith(held) for stop in stops) or first_stop(held, stops)[1] is not None


@pytest.mark.parametrize(
    ("pieces", "stops", "released"),
    [
        (["one\n", "\n", "two"], ["\n\n"], [Released("one", None), Released("", "\n\n")]),
        (["<", "|", "x"], ["<|end|>"], [Released("", None), Released("", None), Released("<|x", None)]),
        (["aab"], ["ab"], [Released("a", "ab")]),
        # "bc" is complete first, but "abcd" would begin before it
        (["ab", "c", "d"], ["bc", "abcd"], [Released("", None), Released("", None), Released("", "abcd")]),
        (["ab", "c", "x"], ["bc", "abcd"], [Released("", None), Released("", None), Released("a", "bc")]),
        (["anything"], [], [Released("anything", None)]),
    ],
)
def test_examples(pieces: list[str], stops: list[str], released: list[Released]) -> None:
    buffer = StopBuffer(stops)
    assert [buffer.push(piece) for piece in pieces[: len(released)]] == released


def test_flush_of_a_complete_string_that_waited_ends_before_it() -> None:
    buffer = StopBuffer(["bc", "abcd"])
    assert buffer.push("abc") == Released("", None)
    assert buffer.flush() == Released("a", "bc")
    assert buffer.flush() == Released("", None)


def test_of_two_that_begin_together_the_shorter_does_not_wait() -> None:
    assert StopBuffer(("abc", "ab")).push("xab") == Released("x", "ab")
