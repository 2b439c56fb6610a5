"""Programs of torch that run code of their makers, or use files, when torch loads them: refused before it does."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_worker_xpu.infer.exported import load_exported
from infermesh_worker_xpu.infer.program import Program
from infermesh_worker_xpu.infer.torchscript import load_torchscript
from tests.tensor_models.changed_programs import CODE, changed, edited, two_directories
from tests.tensor_models.torch_programs import LINEAR_TENSORS, Linear, Same, linear, script, spec

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


class Restored(torch.nn.Module):
    """Writes a file when it is loaded."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        torch.save(torch.ones(1), state[0])
        self.path = state[0]
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_torchscript_that_writes_a_file_when_it_is_loaded_is_refused(tmp_path: Path, mark: Path) -> None:
    tensors = {"inputs": [spec("x", -1)], "outputs": [spec("y", -1)]}
    graph = script(tmp_path / "m.pt", Restored(str(mark)), tensors)
    with pytest.raises(FailedPrecondition, match=r"m\.pt uses save, "):
        load_torchscript(graph, CPU)
    assert not mark.exists()


ATTACKS = {
    "fork": 'f = fork(torch.save, x, "{}")',
    "another namespace": '_0 = ops.aten.save(x, "{}")',
    "spaces": '_0 = torch. save (x, "{}")',
    "getattr": '_0 = getattr(torch, "save")(x, "{}")',
    "joined strings": '_0 = getattr(torch, "sa" "ve")(x, "{}")',
    "an escaped name": '_0 = getattr(ops.aten, "sa\\166e")(x, "{}")',
    "a file to read": '_0 = torch.from_file("{}", False, 1, dtype=0)',
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_torchscript_that_hides_operators_for_files_is_refused(tmp_path: Path, mark: Path, attack: str) -> None:
    def change(source: bytes) -> bytes:
        return source.replace(b"    return ", f"    {attack.format(mark)}\n    return ".encode())

    tensors = {"inputs": [spec("x", -1)], "outputs": [spec("y", -1)]}
    where = "code/__torch__/tests/tensor_models/torch_programs.py"
    graph = changed(script(tmp_path / "a.pt", Same(), tensors), tmp_path / "m.pt", where, change)
    with pytest.raises(FailedPrecondition, match=r"m\.pt (uses (save|from_file),|looks up names in code/)"):
        load_torchscript(graph, CPU)


def test_sources_in_the_place_of_an_older_form_are_refused(tmp_path: Path) -> None:
    graph = script(tmp_path / "a.pt", Linear(), LINEAR_TENSORS, inside=True)
    with pytest.raises(InvalidArgument, match=r"older than 1\.4"):
        load_torchscript(changed(graph, tmp_path / "m.pt", "Model.json", lambda _: b"{}"), CPU)


def test_modules_with_numbers_as_names_are_accepted(tmp_path: Path) -> None:
    layers = torch.nn.Sequential(torch.nn.Sequential(Linear()), torch.nn.ReLU())
    tensors = {"inputs": [spec("input", -1, 4)], "outputs": [spec("y", -1, 3)]}
    assert load_torchscript(script(tmp_path / "m.pt", layers, tensors), CPU).inputs[0].name == "input"
