"""An imported embedder as worker-xpu builds it: batches of requests, memory, and models that are for others."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Result
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_xpu.build import build
from infermesh_worker_xpu.preflight import footprint
from infermesh_worker_xpu.settings import WorkerXpuSettings
from tests.text_models.folders import HIDDEN, import_texts, tiny_embedder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    import_texts(tiny_embedder(home / "e"), home / "models", "embedder")
    return home / "models" / "embedder"


def item(*texts: list[int]) -> Item:
    tensors = {"ids": np.concatenate(texts).astype(np.int32), "lengths": np.array([len(t) for t in texts], np.int32)}
    return Item(params={"pooling": "mean", "normalize": True}, tensors=tensors)


def vectors(outcome: object) -> Array:
    assert isinstance(outcome, Result)
    return outcome.tensors["embeddings"]


def test_requests_in_a_batch_get_their_own_vectors(folder: Path) -> None:
    made = build({"folder": str(folder), "verify": "always", "device": "cpu", "numerics": "exact", "threads": 1})
    assert isinstance(made, BuiltExecutor)
    assert made.kind == "embed"
    items = [item([2, 5, 6, 3], [2, 7, 3]), item([2, 8, 9, 10, 3])]
    together = [vectors(outcome) for outcome in made.executor.run(items)]
    assert [each.shape for each in together] == [(2, HIDDEN), (1, HIDDEN)]
    alone = [vectors(made.executor.run([each])[0]) for each in items]
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(together, alone, strict=True))
    assert np.allclose(np.linalg.norm(together[0], axis=1), 1)


def test_memory_is_estimated_without_a_kv_cache(folder: Path) -> None:
    opened, settings = ModelFolder.open(folder), WorkerXpuSettings.model_validate({})
    found = footprint(opened, settings)
    assert isinstance(found, Footprint)
    assert found.kv_wanted_bytes == 0
    for changes in ({"not_for": ("torch",)}, {"format": "openvino"}):
        other = replace(opened, manifest=msgspec.structs.replace(opened.manifest, **changes))
        assert footprint(other, settings) is None
