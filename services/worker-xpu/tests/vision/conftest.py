"""A tiny vision-language model of each family on worker-xpu in exact numerics, and in transformers."""

from collections.abc import Iterator

import pytest

from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker_xpu.build_model import build_model
from tests.vision_models.families import save
from tests.vision_models.pair import Pair


@pytest.fixture(scope="module", params=["smolvlm", "qwen2_5_vl", "gemma3"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("vision") / request.param
    folder.mkdir()
    reference, process = save(request.param, folder)
    options = {"folder": str(folder), "device": "cpu", "numerics": "exact", "kv_cache_bytes": 8 << 20, "threads": 1}
    built = build_model(options)
    opened = OpenedModel.from_folder(ModelFolder.open(folder), {}, takes_images=True)
    made = Pair(folder, reference, process, built, opened)
    yield made
    built.runner.close()
