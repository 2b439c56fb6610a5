"""When words were said: the cheapest path, found as by hand, and what belongs to a word."""

from functools import cache

import numpy as np
import pytest
from tokenizers import Tokenizer

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker.speech.word_times.alignment import token_frames, warp
from infermesh_worker.speech.word_times.spelling import Spelling
from infermesh_worker.speech.word_times.words import SaidWord, with_punctuation


def cheapest(costs: Array) -> float:
    """The cost of the cheapest path, step by step."""

    @cache
    def to(row: int, column: int) -> float:
        if row < 0 or column < 0:
            return np.inf
        before = min(to(row - 1, column - 1), to(row - 1, column), to(row, column - 1)) if row or column else 0.0
        return float(costs[row, column]) + before

    return to(costs.shape[0] - 1, costs.shape[1] - 1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (5, 12), (12, 5)])
def test_the_path_is_the_cheapest_one(shape: tuple[int, int]) -> None:
    costs = np.random.default_rng(sum(shape)).uniform(0, 1, shape).astype(np.float32)
    rows, columns = warp(costs)
    assert (rows[0], columns[0], rows[-1], columns[-1]) == (0, 0, shape[0] - 1, shape[1] - 1)
    steps = np.stack([np.diff(rows), np.diff(columns)], axis=1)
    assert {tuple(step) for step in steps.tolist()} <= {(1, 1), (1, 0), (0, 1)}
    assert float(costs[rows, columns].sum()) == pytest.approx(cheapest(costs), rel=1e-5)


def test_tokens_begin_where_the_heads_look() -> None:
    random = np.random.default_rng(2)
    scores = random.normal(0, 0.3, (3, 6, 200)).astype(np.float32)
    for token in range(6):
        scores[:, token, 20 * token : 20 * (token + 1)] += 5.0
    scores[:, :, 130:] += 9.0  # there is no sound there
    begins = token_frames(scores, 120)
    assert begins.tolist() == pytest.approx([20 * token for token in range(6)], abs=2)


def test_words_are_split_at_spaces_and_whole_characters(config: SpeechConfig, tokenizer: Tokenizer) -> None:
    spelling = Spelling(tokenizer, config.tokens.end)
    text = " the naïve 猫, in 猫"
    tokens = spelling.encode(text)
    words = spelling.words(tokens, "en")
    assert [word.text for word in words] == [" the", " naïve", " 猫", ",", " in", " 猫"]
    assert [token for word in words for token in word.tokens] == tokens
    characters = spelling.words(spelling.encode("猫が"), "ja")
    assert [word.text for word in characters] == ["猫", "が"]
    cut_off = spelling.words(tokens[:-1], "en")
    assert [token for word in cut_off for token in word.tokens] == tokens[:-1]


def test_punctuation_belongs_to_the_word_beside_it() -> None:
    parts = [" he", ' "', "go", ",", " now", "!", '"', " ("]
    said = [
        SaidWord(text=text, tokens=(place,), begin_s=place, end_s=place + 1.0, probability=0.5)
        for place, text in enumerate(parts)
    ]
    joined = with_punctuation(said)
    assert [word.text for word in joined] == [" he", ' "go,', ' now!"', " ("]
    assert [token for word in joined for token in word.tokens] == list(range(8))
    assert (joined[1].begin_s, joined[1].end_s) == (2, 3)
