"""Exported graphs have no soft cap: worker-cpu takes it from the folder's config.json, or refuses the model by name."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_cpu.check_model import check
from infermesh_worker_cpu.front import footprint
from infermesh_worker_cpu.runner import OpenVinoOptions, OpenVinoRunner
from infermesh_worker_cpu.settings import WorkerCpuSettings
from infermesh_worker_cpu.soft_cap.folders import has_soft_cap, read_folder
from tests.gguf_files.capped_gemma import Made
from tests.gguf_files.reference import log_probabilities
from tests.gguf_files.running import IDS, log_probabilities_of

FULL, LOCAL = "full_attention", "sliding_attention"
GEMMA2: dict[str, Any] = {"model_type": "gemma2", "attn_logit_softcapping": 1.5, "sliding_window": 20}


def folder_with(folder: Path, **config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_graph_without_the_cap_gets_it_from_the_config(made: Made, tmp_path: Path) -> None:
    """As optimum-intel exports it: attention that knows neither cap nor windows."""
    exported = tmp_path / "openvino" / "openvino_model.xml"
    exported.parent.mkdir()
    exported.write_text(made.xml.read_text().replace('"attention_', '"other_').replace("<attention_", "<other_"))
    exported.with_suffix(".bin").hardlink_to(made.xml.with_suffix(".bin"))
    folder_with(tmp_path, **GEMMA2, layer_types=[LOCAL, FULL, LOCAL, FULL])
    runner = OpenVinoRunner(exported, OpenVinoOptions(numerics="exact", kv_cache_bytes=1 << 24, threads=2))
    expected = log_probabilities(made.recipe, made.weights, IDS)
    assert np.abs(log_probabilities_of(runner) - expected).max() < 1e-4


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({**GEMMA2, "layer_types": [LOCAL, LOCAL, FULL]}, ([20, 20, 0], 1.5)),
        ({**GEMMA2, "num_hidden_layers": 3}, ([20, 0, 20], 1.5)),
        ({"model_type": "gemma2", "num_hidden_layers": 2}, ([4096, 0], 50.0)),
        ({**GEMMA2, "attn_logit_softcapping": None}, None),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": None, "final_logit_softcapping": 30.0}, None),
        ({"model_type": "llama"}, None),
    ],
)
def test_what_a_config_says(config: dict[str, Any], found: tuple[list[int], float] | None, tmp_path: Path) -> None:
    assert read_folder(folder_with(tmp_path, **config)) == found
    assert has_soft_cap(tmp_path) == (found is not None)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "grok-1", "attn_logit_softcapping": 30.0},
        {"model_type": "new", "attention_logit_cap": 20},
        {"model_type": "seen", "text_config": {"model_type": "gemma2", "attn_logit_softcapping": 50.0}},
    ],
)
def test_other_models_with_a_soft_cap_are_refused_by_name(config: dict[str, Any], tmp_path: Path) -> None:
    folder_with(tmp_path, **config)
    with pytest.raises(FailedPrecondition, match=rf"cap\w* = \d+.* model_type '{config['model_type']}'") as caught:
        check(tmp_path, "safetensors")
    assert caught.value.reason == "MODEL_NOT_SUPPORTED"


def test_a_folder_without_a_config_has_no_soft_cap(tmp_path: Path) -> None:
    assert read_folder(tmp_path) is None
    (tmp_path / "config.json").write_text("[1]")
    assert read_folder(tmp_path) is None


def test_the_estimated_cache_is_that_of_bf16(tmp_path: Path) -> None:
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "openvino_model.bin").write_bytes(b"0" * 100)
    manifest = SimpleNamespace(context_length=100, kind="generate")
    folder = cast("ModelFolder", SimpleNamespace(path=tmp_path, manifest=manifest))

    def least_bytes(**config: Any) -> int:
        folder_with(tmp_path, **shape, **config)
        estimated = footprint(folder, WorkerCpuSettings.model_validate({}))
        assert estimated is not None
        return estimated.kv_least_bytes

    token_numbers = 2 * 2 * 2 * 16
    assert least_bytes(**GEMMA2) == 100 * token_numbers * 2
    assert least_bytes(model_type="llama") < 100 * token_numbers * 1.2
