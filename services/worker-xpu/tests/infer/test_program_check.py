"""What an import finds in programs of torch and ONNX files, and what it refuses by name before torch reads it."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument
from infermesh_worker.tensor_models.files import OTHER_FORMAT
from infermesh_worker_xpu.infer.check import describe
from tests.tensor_models.changed_programs import CODE, changed, edited
from tests.tensor_models.torch_programs import (
    LINEAR_TENSORS,
    Counter,
    Linear,
    RunningSum,
    export,
    linear,
    script,
    spec,
)

BAD = (InvalidArgument, FailedPrecondition)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def described(graph: Path) -> dict[str, Any]:
    return describe(graph, progress=lambda _what, _share: None)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linear(tmp_path_factory.mktemp("program") / "m.pt2")


def test_a_program_says_what_it_takes_and_gives(program: Path) -> None:
    found = described(program)
    assert (found["format"], found["files"]) == ("pt2", ["m.pt2"])
    assert found["inputs"] == ({"name": "x", "dtype": "FP32", "shape": (-1, 4)},)
    assert found["outputs"] == ({"name": "output", "dtype": "FP32", "shape": (-1, 3)},)
    assert found["batching"]["max_size"] > 1


def test_an_open_first_dimension_that_is_no_batch_is_not_batched(tmp_path: Path) -> None:
    assert described(export(tmp_path / "sum.pt2", RunningSum(), torch.ones(2, 3)))["batching"] is None
    assert described(linear(tmp_path / "fixed.pt2", fixed=True))["inputs"][0]["shape"] == (2, 4)


def test_torchscript_is_described_beside_or_inside(tmp_path: Path) -> None:
    beside = described(script(tmp_path / "a.pt", Linear(), LINEAR_TENSORS))
    assert beside["files"] == ["a.pt", "a.tensors.json"]
    inside = described(script(tmp_path / "b.ts", Linear(), LINEAR_TENSORS, inside=True))
    assert (inside["format"], inside["files"]) == ("torchscript", ["b.ts"])
    assert inside["inputs"] == beside["inputs"] == ({"name": "x", "dtype": "FP32", "shape": (-1, 4)},)
    with pytest.raises(FailedPrecondition, match=r"describe them in c\.tensors\.json"):
        described(script(tmp_path / "c.pt", Linear(), None))
    wrong = {**LINEAR_TENSORS, "inputs": [spec("z", -1, 4)]}
    with pytest.raises(InvalidArgument, match=r"d\.pt takes x, but the description lists z"):
        described(script(tmp_path / "d.pt", Linear(), wrong))


def test_programs_with_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"c\.pt2 changes its own state \(count\)"):
        described(export(tmp_path / "c.pt2", Counter(), torch.ones(2, 3)))
    tensors = {"inputs": [spec("x", -1)], "outputs": [spec("y", -1)]}
    with pytest.raises(FailedPrecondition, match=r"c\.pt changes its own state \(count\)"):
        described(script(tmp_path / "c.pt", Counter(), tensors))


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".ts"])
def test_pickled_modules_are_refused_by_name_and_not_read(tmp_path: Path, suffix: str) -> None:
    mark = tmp_path / "mark"
    for number, legacy in enumerate((True, False)):
        graph = tmp_path / f"m{number}{suffix}"
        torch.save(Evil(mark), graph, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(FailedPrecondition, match=rf"m{number}\{suffix} holds a pickled module"):
            described(graph)
    assert not mark.exists()


def test_pickled_parts_of_programs_are_refused_and_not_read(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = io.BytesIO()
    torch.save(Evil(mark), evil)
    graph = changed(program, tmp_path / "a.pt2", "data/sample_inputs/model.pt", lambda _body: evil.getvalue())
    with pytest.raises(FailedPrecondition, match="pickled example inputs"):
        described(graph)

    def weights(body: bytes) -> bytes:
        return body.replace(b'"use_pickle": false', b'"use_pickle": true')

    graph = changed(program, tmp_path / "b.pt2", "data/weights/model_weights_config.json", weights)
    with pytest.raises(FailedPrecondition, match="the pickled object weights"):
        described(graph)
    graph = changed(program, tmp_path / "c.pt2", "data/constants/opaque_obj_0", lambda _: pickle.dumps(Evil(mark)))
    with pytest.raises(FailedPrecondition, match="opaque_obj_0"):
        described(graph)
    graph = changed(program, tmp_path / "d.pt2", "data/aotinductor/model/a.so", lambda _body: b"\x7fELF")
    with pytest.raises(FailedPrecondition, match=r"data/aotinductor/model/a\.so"):
        described(graph)
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.load_library",
        "torch.ops.aten.add.__class__",
        "torch.ops.a.__init__.__globals__",
        "torch.serialization.load",
        "_operator.methodcaller",
        "#x:y",
        "open",
    ],
)
def test_calls_of_anything_but_operators_are_refused(program: Path, tmp_path: Path, target: str) -> None:
    def edit(found: Any) -> None:
        found["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(FailedPrecondition, match="which is no operator of torch"):
        described(edited(program, tmp_path / "m.pt2", edit))


def test_programs_of_many_operators_are_accepted(tmp_path: Path) -> None:
    """Sizes that depend on the data, comparisons of sizes, branches, and operators with odd names."""

    class Many(torch.nn.Module):
        def forward(self, x: torch.Tensor, keep: torch.Tensor) -> dict[str, torch.Tensor]:
            branch = torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))
            padded = torch.nn.functional.pad(branch, (0, (8 - x.shape[1] % 8) % 8))
            return {"found": torch.nonzero(x > 0.5), "padded": padded, "both": keep & (x > 0.5)}

    dynamic = torch.export.Dim.DYNAMIC
    shapes = ({0: dynamic, 1: dynamic}, {0: dynamic, 1: dynamic})
    examples = (torch.rand(4, 3), torch.ones(4, 3, dtype=torch.bool))
    torch.export.save(torch.export.export(Many(), examples, dynamic_shapes=shapes), tmp_path / "m.pt2")
    assert [spec["name"] for spec in described(tmp_path / "m.pt2")["outputs"]] == ["found", "padded", "both"]


def test_programs_that_use_files_are_refused(tmp_path: Path) -> None:
    class Reads(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8)

    with pytest.raises(FailedPrecondition, match=r"m\.pt uses from_file, "):
        described(script(tmp_path / "m.pt", Reads(), {"inputs": [spec("x", -1)], "outputs": [spec("y", -1)]}))


def test_code_in_the_place_of_sizes_and_guards_is_refused(program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = CODE.format(mark)

    def size(found: Any) -> None:
        values = found["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0]["as_expr"]["expr_str"] = code

    def guard(found: Any) -> None:
        found["guards_code"] = [f"L['x'].size()[{code}] == 1"]

    with pytest.raises(FailedPrecondition, match="which is no arithmetic"):
        described(edited(program, tmp_path / "a.pt2", size))
    with pytest.raises(FailedPrecondition, match="which is no comparison of sizes"):
        described(edited(program, tmp_path / "b.pt2", guard))
    assert not mark.exists()


def test_files_of_a_newer_torch_are_refused_by_name(program: Path, tmp_path: Path) -> None:
    def newer(found: Any) -> None:
        found["schema_version"]["major"] = 99

    with pytest.raises(FailedPrecondition, match=r"a\.pt2 was saved by a torch that this one.*does not understand"):
        described(edited(program, tmp_path / "a.pt2", newer))
    graph = script(tmp_path / "m.pt", Linear(), LINEAR_TENSORS, inside=True)
    graph = changed(graph, tmp_path / "b.pt", "version", lambda _body: b"99\n")
    with pytest.raises(FailedPrecondition, match=r"cannot read b\.pt: .*version"):
        described(graph)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_damaged_files_are_refused_by_name(program: Path, tmp_path: Path, suffix: str) -> None:
    graph = tmp_path / f"m{suffix}"
    body = program.read_bytes()
    if suffix == ".pt":
        body = script(graph, Linear(), LINEAR_TENSORS, inside=True).read_bytes()
    for cut in (0, 10, len(body) // 2, len(body) - 3):
        graph.write_bytes(body[:cut])
        with pytest.raises(BAD, match=rf"m\{suffix}"):
            described(graph)


def test_a_program_without_its_weights_is_refused(program: Path, tmp_path: Path) -> None:
    graph = changed(program, tmp_path / "m.pt2", "data/weights/weight_0", lambda _body: b"")
    with pytest.raises(BAD, match=r"m\.pt2"):
        described(graph)


def test_programs_under_the_other_suffix_are_told_apart(program: Path, tmp_path: Path) -> None:
    graph = tmp_path / "m.pt"
    graph.write_bytes(program.read_bytes())
    with pytest.raises(InvalidArgument, match=r"name it m\.pt2"):
        described(graph)
    script(tmp_path / "s.pt", Linear(), LINEAR_TENSORS, inside=True).rename(tmp_path / "s.pt2")
    with pytest.raises(InvalidArgument, match=r"name it s\.pt$"):
        described(tmp_path / "s.pt2")


def test_other_files_are_left_to_other_workers(tmp_path: Path) -> None:
    with pytest.raises(InfermeshError, match=r"expected a file that ends in \.pt2") as caught:
        described(tmp_path / "m.tflite")
    assert caught.value.reason == OTHER_FORMAT
