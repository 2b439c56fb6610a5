"""Folders as people have them: loaded with every weight, or refused by name; never with weights that are made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from infermesh_engine.runners.first_pass import is_finite
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.broken_weights import find_broken_weight
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.options import TorchOptions

if TYPE_CHECKING:
    from conftest import Feed, TinyFolder

    CheckEqual = Callable[[Path], None]

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
IDS = np.random.default_rng(1).integers(3, 160, 12)


@pytest.fixture
def folder(tiny_folder: TinyFolder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "llama"))


def load(folder: Path) -> TorchRunner:
    return load_runner(folder, TorchOptions(device="cpu", dtype="fp32", kv_cache_bytes=1 << 20, context_length=64))


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / FILE)
    change(tensors)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})


def configure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.fixture
def check_equal(feed: type[Feed]) -> CheckEqual:
    """Compares the logits of a folder with those of transformers."""

    def check(folder: Path) -> None:
        runner = load(folder)
        found = feed(runner, [IDS]).run({0: len(IDS)})[0]
        runner.close()
        model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
        with torch.inference_mode():
            expected = model(input_ids=torch.from_numpy(IDS)[None]).logits[0, -1].numpy()
        np.testing.assert_allclose(found, expected, atol=2e-4, rtol=1e-3)

    return check


def test_shards_by_the_names_of_the_index(folder: Path, check_equal: CheckEqual) -> None:
    tensors = load_file(folder / FILE)
    (folder / FILE).unlink()
    names = sorted(tensors)
    homes = {name: "a.safetensors" if place % 2 else "last.safetensors" for place, name in enumerate(names)}
    for home in set(homes.values()):
        save_file({name: tensors[name] for name in names if homes[name] == home}, folder / home, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    check_equal(folder)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_with_its_own_tensor(folder: Path, check_equal: CheckEqual, tied: bool) -> None:
    configure(folder, tie_word_embeddings=tied)
    edit(folder, lambda tensors: tensors.update({"lm_head.weight": torch.randn(160, 64)}))
    check_equal(folder)


def test_a_tied_head_without_its_own_tensor(folder: Path, check_equal: CheckEqual) -> None:
    configure(folder, tie_word_embeddings=True)
    edit(folder, lambda tensors: tensors.pop("lm_head.weight"))
    check_equal(folder)


Q_BIAS = "model.layers.0.self_attn.q_proj.bias"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.pop("lm_head.weight"), "files lack the tensor lm_head.weight"),
        (lambda tensors: tensors.pop("model.norm.weight"), "files lack the tensor model.norm.weight"),
        (lambda tensors: tensors.update({Q_BIAS: torch.ones(64)}), f"files hold the tensor {Q_BIAS}, which its config"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.ones(8)}), "cannot load"),
    ],
)
def test_weights_that_do_not_fit_the_configuration(
    folder: Path, change: Callable[[dict[str, Tensor]], object], problem: str
) -> None:
    edit(folder, change)
    with pytest.raises(FailedPrecondition, match=problem):
        load(folder)


@pytest.mark.parametrize("method", ["fp8", "awq", "gptq", "compressed-tensors", "some_new_method"])
def test_quantised_weights_are_refused_by_the_name_of_their_method(folder: Path, method: str) -> None:
    configure(folder, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(FailedPrecondition, match=f"quantised with {method}"):
        load(folder)


def test_code_that_comes_with_a_model_never_runs(folder: Path, check_equal: CheckEqual) -> None:
    (folder / "modeling_new.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    classes = {"AutoConfig": "modeling_new.NewConfig", "AutoModelForCausalLM": "modeling_new.NewForCausalLM"}
    configure(folder, auto_map=classes)
    check_equal(folder)
    configure(folder, model_type="brand_new")
    with pytest.raises(FailedPrecondition, match="cannot load"):
        load(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("tensor", "value"), [("model.layers.1.mlp.down_proj.weight", np.nan), ("lm_head.weight", np.inf)]
)
def test_weights_that_are_not_finite_are_named(folder: Path, tensor: str, value: float) -> None:
    assert find_broken_weight(folder) == ""
    edit(folder, lambda tensors: tensors[tensor][5].fill_(value))
    runner = load(folder)
    assert not is_finite(runner)
    runner.close()
    assert find_broken_weight(folder) == f"{tensor} in {FILE}"
