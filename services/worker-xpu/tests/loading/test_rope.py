"""Rotary embeddings that would change with the longest sequence of a batch are kept, and the context is limited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Feed, MakeRunner, Reference

LIMIT = 48


@pytest.mark.parametrize("name", ["phi3-long", "llama-dynamic"])
def test_a_long_sequence_does_not_change_a_short_one(
    name: str, tiny_runner: MakeRunner, reference: Reference, feed: type[Feed]
) -> None:
    runner = tiny_runner(name)
    assert runner.info.context_length == LIMIT
    rng = np.random.default_rng(3)
    short, long = rng.integers(3, 160, 20), rng.integers(3, 160, LIMIT + 30)
    both = feed(runner, [short, long])
    found = both.run({0: 20, 1: LIMIT + 30})[0]
    np.testing.assert_allclose(found, reference(name, short)[-1], atol=2e-4, rtol=1e-3)
    runner.close()


def test_other_scalings_leave_the_context_alone(tiny_runner: MakeRunner) -> None:
    for name in ("llama-scaled", "qwen2-yarn"):
        runner = tiny_runner(name)
        assert runner.info.context_length == 512
        runner.close()
