"""Programs of torch that run code of their makers, or use files, when torch loads them: refused before it does."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_xpu.infer.exported import load_exported
from infermesh_worker_xpu.infer.program import Program
from tests.tensor_models.changed_programs import CODE, edited, two_directories
from tests.tensor_models.torch_programs import linear

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear(tmp_path_factory.mktemp("program") / "m.pt2")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What the attacks write."""
    return tmp_path / "mark"


def load(graph: Path) -> Program:
    return load_exported(graph, CPU)


def with_code_as_size(program: Path, target: Path, mark: Path) -> Path:
    def edit(found: Any) -> None:
        values = found["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0]["as_expr"]["expr_str"] = CODE.format(mark)

    return edited(program, target, edit)


def test_what_is_checked_is_what_torch_reads(program: Path, tmp_path: Path, mark: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        harmless = {name: archive.read(name) for name in archive.namelist()}
    bad = with_code_as_size(program, tmp_path / "bad.pt2", mark)
    with pytest.raises(FailedPrecondition, match="which is no arithmetic"):
        load(two_directories(bad, harmless, tmp_path / "m.pt2"))
    assert not mark.exists()


def test_torch_does_not_fall_back_to_members_that_were_not_checked(program: Path, tmp_path: Path) -> None:
    old = {"version": b"8.8", "serialized_exported_program.json": b"{}"}
    with pytest.raises(InvalidArgument, match="torch and Python find different parts"):
        load(two_directories(program, old, tmp_path / "m.pt2"))
