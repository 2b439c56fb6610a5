"""Cutting of texts and phonemes: sentences, short ones together, and pieces of bounded length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_worker.speaking.splitting import parts, sentences

LONG = "This sentence is long enough to stand for itself."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n\n ", []),
        ("Hi.", ["Hi."]),
        (f"{LONG} {LONG}", [LONG, LONG]),
        (f"Hi. Yes! {LONG} Bye.", [f"Hi. Yes! {LONG}", "Bye."]),
        ("A title\nand a line", ["A title", "and a line"]),
        (f"“{LONG}” said Dr. Smith, who is no doctor at all. {LONG}", ["“" + LONG + "”", None, LONG]),
        (
            "The U. S. of A. have 3.5 things that cost $5.20 each.",
            ["The U. S. of A. have 3.5 things that cost $5.20 each."],
        ),
    ],
)
def test_sentences(text: str, expected: list[str | None]) -> None:
    found = list(sentences(text))
    assert len(found) == len(expected)
    assert all(wanted in {None, sentence} for sentence, wanted in zip(found, expected, strict=True))


@given(st.text(alphabet='ab .,!?\n"”', max_size=300))
def test_no_word_is_lost_or_twice(text: str) -> None:
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@given(st.text(alphabet="ab .,!", max_size=200), st.integers(1, 40))
def test_parts_are_bounded_and_complete(text: str, most: int) -> None:
    phonemes = " ".join(text.split())
    found = list(parts(phonemes, most))
    assert all(0 < len(part) <= most for part in found)
    assert "".join(found).replace(" ", "") == phonemes.replace(" ", "")


def test_parts_end_at_the_best_place() -> None:
    assert list(parts("aaaa. bbbb, cc dd ee", 12)) == ["aaaa. bbbb,", "cc dd ee"]
    assert list(parts("aaaa bb. cccc, ddddd", 15)) == ["aaaa bb.", "cccc, ddddd"]
    assert list(parts("aaaaaaaaaa", 4)) == ["aaaa", "aaaa", "aa"]


@pytest.mark.parametrize("text", ["Dr. " * 15_000, ' ."' * 20_000, " " * 60_000 + "a", "a" * 60_000, '"' * 60_000])
def test_hostile_texts_are_cut_at_once(text: str) -> None:
    begin_s = time.process_time()
    assert sum(len(list(parts(sentence, 200))) for sentence in sentences(text)) > 0
    assert time.process_time() - begin_s < 1.0
