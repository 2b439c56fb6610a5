"""Whatever the device says, times come in pairs that do not run backwards, and a text begins with a time."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_worker.speech.config import SpecialTokens
from infermesh_worker.speech.rules import TokenRules
from infermesh_worker.speech.segments import Cut, Part, cut

TIME, VOCABULARY = 30, 60
TOKENS = SpecialTokens(
    end=20,
    start=21,
    previous=22,
    no_speech=23,
    no_timestamps=29,
    first_time=TIME,
    tasks={},
    languages={},
    suppressed=(3, 21, 22, 23, 24, 25, 26, 27, 28, 999),
    suppressed_first=(5,),
    latest_first_time=4,
)


def written(seed: int, favour: float) -> list[int]:
    """What greedy decoding of random logits writes; `favour` is added to those of times."""
    random, rules, tokens = np.random.default_rng(seed), TokenRules(TOKENS, VOCABULARY), list[int]()
    while len(tokens) < 40:
        logits = random.standard_normal(VOCABULARY).astype(np.float32)
        logits[TIME:] += favour
        rules.apply(logits, tokens)
        token = int(logits.argmax())
        if token == TOKENS.end:
            break
        tokens.append(token)
    return tokens


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), favour=st.sampled_from([-3.0, 0.0, 3.0]))
def test_times_come_in_pairs_and_in_order(seed: int, favour: float) -> None:
    tokens = written(seed, favour)
    times = [token for token in tokens if token >= TIME]
    assert TIME <= tokens[0] <= TIME + 4
    assert times == sorted(times)
    assert not {3, *range(21, 30)} & set(tokens)
    runs = "".join("t" if token >= TIME else "w" for token in tokens)
    assert "ttt" not in runs
    assert not runs.startswith("tt")
    found = cut(tokens, TIME, 60)
    assert all(part.begin_s <= part.end_s for part in found.parts)
    assert found.frames > 0


def test_many_improbable_times_together_outdo_a_probable_word() -> None:
    logits = np.zeros(VOCABULARY, np.float32)
    logits[1] = 2.0  # exp(2) = 7.4, and there are 29 times left
    TokenRules(TOKENS, VOCABULARY).apply(logits, [TIME, 1])
    assert logits.argmax() > TIME
    logits = np.zeros(VOCABULARY, np.float32)
    logits[1] = 4.0
    TokenRules(TOKENS, VOCABULARY).apply(logits, [TIME, 1])
    assert logits.argmax() == 1


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([TIME, 1, TIME + 5], Cut((Part(0.0, 0.1, (TIME, 1, TIME + 5)),), 60)),
        ([TIME, 1, 2], Cut((Part(0.0, 0.6, (TIME, 1, 2)),), 60)),
        ([TIME + 1, 1, TIME + 3, TIME + 4, 2], Cut((Part(0.02, 0.06, (TIME + 1, 1, TIME + 3)),), 6)),
        (
            [TIME, 1, TIME + 3, TIME + 4, 2, TIME + 9],
            Cut((Part(0.0, 0.06, (TIME, 1, TIME + 3)), Part(0.08, 0.18, (TIME + 4, 2, TIME + 9))), 60),
        ),
        (
            [TIME, 1, TIME + 3, TIME + 3, 2, TIME + 9, TIME + 9],
            Cut((Part(0.0, 0.06, (TIME, 1, TIME + 3)), Part(0.06, 0.18, (TIME + 3, 2, TIME + 9))), 18),
        ),
    ],
)
def test_a_window_is_cut_at_pairs_of_times(tokens: Sequence[int], expected: Cut) -> None:
    assert cut(tokens, TIME, 60) == expected
