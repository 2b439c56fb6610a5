"""Fixtures: the real model on the real runner, a tiny one with a soft cap, and the prompts that the tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import PROMPTS, Harness
from infermesh_worker_cpu.build_model import build_model
from infermesh_worker_cpu.gguf_graph.build import save_graph
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.capped_gemma import Made
from tests.gguf_files.recipes import write

KV_BYTES = 1 << 30


@pytest.fixture(scope="session")  # a model keeps 1 GB: tests/scheduling.py keeps the files that use one in one process
def exact_model(default_model: Path) -> Iterator[BuiltModel]:
    model = build_model({"folder": str(default_model), "numerics": "exact", "kv_cache_bytes": KV_BYTES})
    yield model
    model.runner.close()


@pytest.fixture(scope="session")
def fast_model(default_model: Path) -> Iterator[BuiltModel]:
    model = build_model({"folder": str(default_model), "kv_cache_bytes": KV_BYTES})
    yield model
    model.runner.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("capped")
    weights = write(folder / "model.gguf", RECIPES["gemma2-capped"])
    save_graph(folder / "model.gguf", folder / "model.xml", lambda what, share: None)
    return Made(RECIPES["gemma2-capped"], weights, folder / "model.xml")


@pytest.fixture(scope="session")
def capped(made: Made) -> Iterator[BuiltModel]:
    model = made.model(numerics="exact")
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
