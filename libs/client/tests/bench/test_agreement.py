"""Where two devices' replies differ, and how much of them is the same."""

import pytest

from infermesh_client.bench.agreement import Difference, Reply, agreement, first_difference


def reply(*words: str) -> Reply:
    return Reply(
        text="".join(words), token_ids=list(map(hash, words)), ttft_s=0, tokens_per_s=0, device="cpu", endpoint=""
    )


def test_the_first_difference_has_what_comes_before_and_after() -> None:
    found = first_difference(reply("The ", "river ", "runs"), reply("The ", "river ", "rests"))
    assert found == Difference(token=2, before="The river r", first="uns", second="ests")
    assert first_difference(reply("a", "b"), reply("a", "b")) is None
    shorter = first_difference(reply("a"), reply("a", "b"))
    assert shorter == Difference(token=1, before="a", first="", second="b")


def test_agreement_counts_the_tokens_before_the_first_difference() -> None:
    first, second = [reply("a", "b", "c", "d"), reply("x", "y")], [reply("a", "b", "z", "d"), reply("x", "y")]
    assert agreement(first, second) == pytest.approx(4 / 6)
    assert agreement([reply()], [reply()]) == 1
