"""A drafter guesses what followed the same tokens before."""

import random
from itertools import pairwise

import numpy as np
import pytest

from infermesh_engine.speculation.acceptance import AcceptanceRates, SharedRates
from infermesh_engine.speculation.drafter import Drafter
from infermesh_engine.speculation.prompt_index import MOST_INDEXED, SHORT, PromptIndex


def drafter(text: list[int], predicted: tuple[int, ...] = ()) -> Drafter:
    index = PromptIndex(np.array(text, dtype=np.int64), predicted)
    return Drafter(index, AcceptanceRates(SharedRates()))


def test_it_goes_on_where_the_same_tokens_occurred_last() -> None:
    assert drafter([1, 2, 3, 4, 9, 1, 2, 5, 6, 9, 1, 2]).draft(3) == [5, 6, 9]


def test_a_longer_match_counts_more_than_a_later_one() -> None:
    text = [7, 8, 1, 2, 3, 3, 3, 9, 9, 1, 2, 4, 4, 7, 8, 1, 2]
    assert drafter(text).draft(2) == [3, 3]


def test_nothing_is_guessed_without_a_match() -> None:
    quiet = drafter([1, 2, 3, 4, 5])
    assert not quiet.has_guess
    assert quiet.draft(4) == []


def test_a_repetition_goes_on() -> None:
    assert drafter([9, 1, 2, 3, 1, 2, 3]).draft(7) == [1, 2, 3, 1, 2, 3, 1]


def test_it_follows_a_match_while_the_output_agrees() -> None:
    source = list(range(10, 40))
    following = drafter([*source, 99, 10, 11])
    for token in range(12, 30):
        assert following.draft(1) == [token]
        following.push(token)
    following.push(77)
    assert not following.has_guess
    following.extend([33, 34])
    assert following.draft(3) == [35, 36, 37]


def test_a_prediction_is_tried_first_and_found_again_after_a_change() -> None:
    told = drafter([1, 2, 3], predicted=(50, 51, 52, 53, 54, 55, 56))
    assert told.draft(3) == [50, 51, 52]
    assert told.from_prediction(3) == 3
    told.extend([50, 51, 80])
    assert not told.has_guess
    told.extend([53, 54])
    assert told.draft(9) == [55, 56]  # never beyond its end
    told.extend([55, 56])
    assert not told.has_guess


def test_a_prediction_is_preferred_to_the_same_tokens_of_the_prompt() -> None:
    told = drafter([50, 51, 60, 61, 1], predicted=(40, 50, 51, 70, 71))
    told.extend([50, 51])
    assert told.draft(2) == [70, 71]


def test_choices_of_a_request_share_an_index_and_no_output() -> None:
    index = PromptIndex(np.array([1, 2, 3, 4, 9, 1], dtype=np.int64), ())
    first, second = (Drafter(index, AcceptanceRates(SharedRates())) for _ in range(2))
    first.extend([2, 7, 7, 1, 2])
    second.push(2)
    assert first.draft(2) == [7, 7], "its own output goes before the prompt"
    assert second.draft(2) == [3, 4]
    assert Drafter(index, AcceptanceRates(SharedRates())).draft(2) == []


def test_a_long_prompt_and_a_long_prediction_are_cut() -> None:
    index = PromptIndex(np.arange(MOST_INDEXED + 10), range(MOST_INDEXED + 20))
    assert index.predicted == MOST_INDEXED
    assert (index.text[index.predicted], index.last) == (10, MOST_INDEXED + 9)
    assert len(index.text) == 2 * MOST_INDEXED - 1


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_a_prompt_of_any_length(size: int) -> None:
    made = drafter([5] * (size + 1), predicted=(5,) * size)
    made.extend([5, 5, 5])
    assert made.draft(2) in ([5, 5], [5])


@pytest.mark.parametrize("seed", range(5))
def test_token_by_token_equals_all_at_once(seed: int) -> None:
    draw = random.Random(seed)
    text = [draw.randrange(4) for _ in range(60)]
    for cut in range(1, 60):
        grown = drafter(text[:cut])
        for end in range(cut, 60):
            if not grown.has_guess:  # one that follows an old match may know better than a new one
                assert not drafter(text[:end]).has_guess
            grown.push(text[end])
    longest = drafter(text)
    (guess,) = longest.draft(1)
    places = [at for at in range(SHORT, 60) if text[at - SHORT : at] == text[-SHORT:]]
    assert guess in {text[at] for at in places}


def test_chances_fall_with_each_guess_and_with_wrong_ones() -> None:
    made = drafter([1, 2, 3, 4, 1, 2])
    before = made.chances(4)
    assert all(0 < later < sooner < 1 for sooner, later in pairwise(before))
    for _ in range(20):
        made.extend([9, 1, 2])  # what followed 1, 2 never comes again
    assert made.chances(1)[0] != before[0]
    shared = SharedRates()
    rates = AcceptanceRates(shared)
    for _ in range(50):
        rates.add(2, right=False)
    assert rates.rate(2) < 0.05
    assert AcceptanceRates(shared).rate(2) < 0.15, "another sequence starts from what is known"
    for _ in range(50):
        rates.add(2, right=True)
    assert rates.rate(2) > 0.7, "what is old counts less"
