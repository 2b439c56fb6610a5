"""Before an import copies a GGUF file, worker-xpu accounts for it or refuses it by name, without loading torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.check_model import check
from tests.gguf_files.all_recipes import RECIPES
from tests.gguf_files.recipes import Recipe, write

if TYPE_CHECKING:
    from conftest import RunPython

PROGRAM = """
import sys, pathlib
from infermesh_worker_xpu.check_model import check
print(*check(pathlib.Path(sys.argv[1]), "gguf"), sep="\\n")
assert "torch" not in sys.modules
"""


def test_a_file_is_accounted_for_without_torch(tmp_path: Path, run_python: RunPython) -> None:
    write(tmp_path / "model.gguf", RECIPES["qwen3moe"])
    lines = run_python("-c", PROGRAM, str(tmp_path / "model.gguf")).splitlines()
    assert lines[0] == "qwen3moe: 2 layers, 4 heads (2 with keys and values), 8 experts (4 for each token)"
    assert "qwen3moe.expert_count" in lines[1]


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", Recipe(architecture="falcon"))
    with pytest.raises(FailedPrecondition, match="falcon") as refusal:
        check(tmp_path / "model.gguf", "gguf")
    assert refusal.value.reason == "MODEL_NOT_SUPPORTED"


def test_a_type_that_cannot_be_dequantised_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = gguf.GGUFWriter.add_tensor

    def add_bytes(writer: gguf.GGUFWriter, name: str, *values: Any, **how: Any) -> None:
        if name == "blk.0.ffn_up.weight":
            add(writer, name, np.ones((128, 64), np.int8))
        else:
            add(writer, name, *values, **how)

    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add_bytes)
    write(tmp_path / "model.gguf", RECIPES["llama"])
    with pytest.raises(FailedPrecondition, match=r"blk\.0\.ffn_up\.weight has the type I8"):
        check(tmp_path / "model.gguf", "gguf")


def test_folders_are_left_alone(tmp_path: Path) -> None:
    assert check(tmp_path, "safetensors") == ()
