"""Programs of torch that run code of their makers, or use files, when torch loads them: refused before it does."""

import json
import zipfile
from collections.abc import Callable
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


def graph_of(found: Any) -> Any:
    return found["graph_module"]["graph"]


def renamed(old: str, new: str) -> Callable[[Any], None]:
    """Gives a tensor another name, wherever it is named."""

    def edit(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            if isinstance(value[key], dict | list):
                edit(value[key])
            elif value[key] == old:
                value[key] = new
        if isinstance(value, dict) and old in value:
            value[new] = value.pop(old)

    return edit


@pytest.mark.parametrize("name", ["x={}", "x, y={}"])
def test_code_as_the_name_of_an_input_is_refused(program: Path, tmp_path: Path, mark: Path, name: str) -> None:
    """torch puts it into the first line of the function that it writes and runs."""
    edit = renamed("x", name.format(CODE.format(mark)))
    with pytest.raises(FailedPrecondition, match=r"m\.pt2 holds the name .x.*which could be code"):
        load(edited(program, tmp_path / "m.pt2", edit))
    assert not mark.exists()


NAMED: dict[str, Callable[[Any, str], None]] = {
    "key": lambda found, code: graph_of(found)["tensor_values"].update({code: {}}),
    "in a list": lambda found, code: found["graph_module"]["module_call_graph"][0]["signature"].update(
        forward_arg_names=[code]
    ),
    "path": lambda found, code: found["graph_module"]["module_call_graph"].append({"fqn": code, "signature": None}),
    "output": lambda found, code: graph_of(found)["nodes"][0].update(name=code),
}


@pytest.mark.parametrize("put", NAMED.values(), ids=NAMED)
def test_code_as_any_name_is_refused(program: Path, tmp_path: Path, put: Callable[[Any, str], None]) -> None:
    with pytest.raises(FailedPrecondition, match="which could be code"):
        load(edited(program, tmp_path / "m.pt2", lambda found: put(found, "print(1)")))


def test_operators_as_arguments_are_checked_as_those_that_are_called(program: Path, tmp_path: Path) -> None:
    def edit(found: Any) -> None:
        graph_of(found)["nodes"][0]["inputs"][0]["arg"] = {"as_operator": "torch.os.system"}

    with pytest.raises(FailedPrecondition, match=r"a call of 'torch\.os\.system'"):
        load(edited(program, tmp_path / "m.pt2", edit))


def container(kind: str, context: Any) -> Any:
    leaf: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
    return {"type": kind, "context": json.dumps(context), "children_spec": [leaf]}


def nested(args: Any, kwargs: Any) -> str:
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": [args, kwargs]}])


ARGS = container("builtins.tuple", None)
NO_KWARGS = {"type": "builtins.dict", "context": "[]", "children_spec": []}
ENUM = container("builtins.dict", [{"__enum__": True, "fqn": "evil:E", "name": "A"}])
ESCAPED = {**ENUM, "context": ENUM["context"].replace("__enum__", "_\\u005fenum__")}
DEFAULT = container("collections.defaultdict", {"default_factory_module": "evil", "default_factory_name": "made"})
SPECS = {
    "a module of a default": nested(DEFAULT, NO_KWARGS),
    "an enum": nested(ENUM, NO_KWARGS),
    "an escaped enum": nested(ESCAPED, NO_KWARGS),
    "an enum deep inside": nested({**ARGS, "children_spec": [ESCAPED]}, NO_KWARGS),
    "an enum in keyword arguments": nested(ARGS, ESCAPED),
    "another class": nested(container("torch.Size", None), NO_KWARGS),
    "code as a keyword": nested(ARGS, container("builtins.dict", ["x': print(1), 'y"])),
    "no description": "[1]",
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_containers_that_import_modules_are_refused(
    program: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    (tmp_path / "evil.py").write_text(CODE.format(mark))
    monkeypatch.syspath_prepend(tmp_path)
    keys = ("in_spec",) if spec == SPECS["code as a keyword"] else ("in_spec", "out_spec")
    for key in keys:

        def edit(found: Any, key: str = key) -> None:
            found["graph_module"]["module_call_graph"][0]["signature"][key] = spec

        with pytest.raises(FailedPrecondition, match="in more than tuples, lists and dicts"):
            load(edited(program, tmp_path / "m.pt2", edit))
    assert not mark.exists()


def test_results_and_keywords_of_other_names_are_accepted(tmp_path: Path) -> None:
    class Both(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleDict({"conv-1": torch.nn.Linear(3, 3), "0": torch.nn.Linear(3, 3)})

        def forward(self, x: torch.Tensor, *, other: dict[str, torch.Tensor]) -> Any:
            return self.layers["conv-1"](x), {"found item": self.layers["0"](other["a b"])}

    x = torch.ones(2, 3)
    torch.export.save(torch.export.export(Both(), (x,), {"other": {"a b": x}}), tmp_path / "m.pt2")
    assert [spec.name for spec in load(tmp_path / "m.pt2").outputs] == ["output_0", "output_1_found item"]
