"""The policy against round robin, random and least requests on a small simulated fleet: which way, not how much."""

import asyncio
import importlib
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    return importlib.import_module("benchmarks.router.fleet")


def test_ours_is_better_on_each_measure(fleet: ModuleType) -> None:
    figures = asyncio.run(fleet.compare(10, 40.0, 7))
    assert figures["requests"] > 500
    assert figures["goodput_over_round_robin"] > 1
    assert figures["best_on_each_measure"]
