"""Fixtures: the real model on the real runner, and the prompts that the tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import PROMPTS, Harness
from infermesh_worker_cpu.build_model import build_model

KV_BYTES = 1 << 30


@pytest.fixture(scope="package")  # not the session: a model keeps 1 GB in this process
def exact_model(default_model: Path) -> Iterator[BuiltModel]:
    model = build_model({"folder": str(default_model), "numerics": "exact", "kv_cache_bytes": KV_BYTES})
    yield model
    model.runner.close()


@pytest.fixture(scope="package")
def fast_model(default_model: Path) -> Iterator[BuiltModel]:
    model = build_model({"folder": str(default_model), "kv_cache_bytes": KV_BYTES})
    yield model
    model.runner.close()


@pytest.fixture
def exact(exact_model: BuiltModel) -> Harness:
    return Harness(exact_model, max_sequences=64, max_batched_tokens=512)


@pytest.fixture(scope="session")
def harness_of() -> Callable[..., Harness]:
    """Makes an engine on a model; takes the fields of EngineConfig."""
    return Harness


@pytest.fixture(scope="session")
def prompts() -> tuple[str, ...]:
    return PROMPTS
