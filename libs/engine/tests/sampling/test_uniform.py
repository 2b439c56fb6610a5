"""The random numbers: uniform, independent, and the same in every version."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_engine.sampling.uniform import UniformStream

# Random123's kat_vectors, philox4x64-10: counter, key, the four words
KNOWN_ANSWERS = [
    ("0" * 64, "0" * 32, "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    ("f" * 64, "f" * 32, "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0"),
    (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]


def _words(text: str) -> list[int]:
    joined = text.replace(" ", "")
    return [int(joined[i : i + 16], 16) for i in range(0, len(joined), 16)]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_numpys_philox_is_the_published_one(counter: str, key: str, words: str) -> None:
    number = sum(word << (64 * i) for i, word in enumerate(_words(counter)))
    before_first = (number - 1) % (1 << 256)
    generator = np.random.Philox(key=np.array(_words(key), dtype=np.uint64), counter=before_first)
    assert generator.random_raw(4).tolist() == _words(words)


def test_numbers_are_fixed_for_ever() -> None:
    """A stream continued by a later version must draw the same numbers."""
    stream = UniformStream(seed=1234, choice=2)
    generator = np.random.Philox(key=np.array([1234, 2], dtype=np.uint64))
    words = generator.random_raw(200)
    assert [stream.at(i) for i in range(200)] == [(int(word) >> 11) / 2**53 for word in words]
    assert [UniformStream(0, 0).at(0), UniformStream(0, 1).at(0), UniformStream(2**64 - 1, 3).at(1000)] == [
        0.011546754286331562,
        0.8133540609793564,
        0.7150648734361612,
    ]


@given(seed=st.integers(0, 2**64 - 1), choice=st.integers(0, 127), positions=st.lists(st.integers(0, 500), max_size=6))
def test_order_of_positions_does_not_matter(seed: int, choice: int, positions: list[int]) -> None:
    stream = UniformStream(seed, choice)
    assert [stream.at(i) for i in positions] == [UniformStream(seed, choice).at(i) for i in positions]


def test_numbers_are_uniform_along_positions_and_across_seeds_and_choices() -> None:
    """Kolmogorov-Smirnov against the uniform distribution, at a level that good generators fail once in 10^6."""
    stream = UniformStream(5, 0)
    samples = [
        [stream.at(i) for i in range(4000)],
        [UniformStream(seed, 0).at(0) for seed in range(4000)],
        [UniformStream(5, choice).at(3) for choice in range(4000)],
    ]
    for sample in samples:
        ordered = np.sort(sample)
        grid = np.arange(1, len(ordered) + 1) / len(ordered)
        assert ordered[0] >= 0
        assert ordered[-1] < 1
        assert np.abs(ordered - grid).max() < 2.7 / np.sqrt(len(ordered))


def test_neighbouring_positions_are_uncorrelated() -> None:
    stream = UniformStream(9, 1)
    numbers = np.array([stream.at(i) for i in range(8000)])
    for lag in (1, 2, 4, 64):
        assert abs(np.corrcoef(numbers[:-lag], numbers[lag:])[0, 1]) < 0.06
