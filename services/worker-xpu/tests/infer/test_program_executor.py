"""Programs of torch in the executor: the numbers of torch called directly, alone and in batches, of every type."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_runtime.tensors import Array, named_type
from infermesh_worker.executors.executor import Item, Result
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.infer.build import make_executor
from infermesh_worker_xpu.infer.dtypes import TYPES, as_tensor
from infermesh_worker_xpu.infer.model_files import SUFFIXES
from infermesh_worker_xpu.infer.torch_executor import TorchExecutor
from tests.tensor_models.torch_programs import (
    LINEAR_TENSORS,
    Linear,
    Same,
    Scaled,
    Two,
    export,
    linear,
    script,
    spec,
)


def build(graph: Path, *, batched: bool = True) -> TorchExecutor:
    made = make_executor(
        graph, SUFFIXES[graph.suffix], devices.select("cpu", 0), threads=1, batched=batched, weights_bytes=0
    )
    assert isinstance(made, TorchExecutor)
    return made


def tensors(outcome: object) -> Mapping[str, Array]:
    assert isinstance(outcome, Result)
    return {name: array.copy() for name, array in outcome.tensors.items()}


def rows(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module", params=["pt2", "pt"])
def executor(folder: Path, request: pytest.FixtureRequest) -> TorchExecutor:
    if request.param == "pt2":
        return build(linear(folder / "linear.pt2"))
    return build(script(folder / "linear.pt", Linear(), LINEAR_TENSORS))


def test_outputs_are_those_of_torch_called_directly(executor: TorchExecutor) -> None:
    directly = Linear()
    for seed in range(50):
        x = rows(1 + seed % 5, seed)
        (got,) = tensors(executor.run([Item(tensors={"x": x})])[0]).values()
        with torch.inference_mode():
            assert np.array_equal(got, directly(torch.from_numpy(x)).numpy())


def test_a_batch_gives_what_its_requests_give_alone(executor: TorchExecutor) -> None:
    items = [Item(tensors={"x": rows(count, count)}) for count in (1, 3, 2)]
    assert len({executor.group(item) for item in items}) == 1
    alone = [tensors(executor.run([item])[0]) for item in items]
    for one, other in zip(alone, map(tensors, executor.run(items)), strict=True):
        for name, array in one.items():
            np.testing.assert_allclose(array, other[name], rtol=1e-6)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_goes_through_unchanged(folder: Path, name: str) -> None:
    described = {"inputs": [spec("x", -1, dtype=name)], "outputs": [spec("y", -1, dtype=name)]}
    executor = build(script(folder / f"{name}.pt", Same(), described))
    x = np.array([0, 1, 1, 0, 1]).astype(named_type(name))
    got = tensors(executor.run([Item(tensors={"x": x})])[0])["y"]
    assert (got.dtype, got.tobytes()) == (x.dtype, x.tobytes())


def test_a_program_of_bf16_takes_and_gives_bf16(folder: Path) -> None:
    executor = build(export(folder / "bf16.pt2", Same(), torch.ones(2, 3, dtype=torch.bfloat16)))
    assert [found.dtype for found in (*executor.inputs, *executor.outputs)] == ["BF16", "BF16"]
    x = np.array([[1, 2, 3]]).astype(named_type("BF16"))
    assert tensors(executor.run([Item(tensors={"x": x})])[0])["output"].tobytes() == x.tobytes()


def test_outputs_have_the_programs_own_names(folder: Path) -> None:
    executor = build(export(folder / "two.pt2", Two(), torch.ones(2, 3), torch.ones(2, 3)))
    a, b = np.full((2, 3), 7, np.float32), np.full((2, 3), 6, np.float32)
    item = Item(params={"outputs": ["product"]}, tensors={"b": b, "a": a})
    assert {name: array.tolist() for name, array in tensors(executor.run([item])[0]).items()} == {
        "product": [[42.0] * 3] * 2
    }
    given = tensors(executor.run([Item(tensors={"b": b, "a": a})])[0])
    assert [*given] == ["sum", "product"]


def test_plain_numbers_are_scalars(folder: Path) -> None:
    described = {"inputs": [spec("x", -1), spec("factor", dtype="FP64")], "outputs": [spec("y", -1)]}
    executor = build(script(folder / "scaled.pt", Scaled(), described))
    item = Item(tensors={"x": np.array([1, 2], np.float32), "factor": np.array(2.5)})
    assert tensors(executor.run([item])[0])["y"].tolist() == [2.5, 5.0]


def test_sizes_that_do_not_fit_are_the_requests_fault(folder: Path) -> None:
    executor = build(export(folder / "fit.pt2", Two(), torch.ones(2, 3), torch.ones(2, 3)))
    a, b = np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)
    with pytest.raises(InvalidArgument, match=r"'b' \[5, 3\]"):
        executor.run([Item(tensors={"a": a, "b": b})])


def test_too_little_memory_is_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    graphs = [linear(folder / "full.pt2"), script(folder / "full.pt", Linear(), LINEAR_TENSORS)]
    monkeypatch.setattr(torch.export, "load", full)
    monkeypatch.setattr(torch.jit, "load", full)
    for graph in graphs:
        with pytest.raises(ResourceExhausted, match=f"too little memory for {graph.name}"):
            build(graph)


def test_nothing_is_copied_on_the_way_into_torch() -> None:
    x = rows(1000, 1)
    assert np.shares_memory(as_tensor(x, "FP32", torch.device("cpu")).numpy(), x)
    bits = x.view(np.uint16)
    given = as_tensor(bits, "BF16", torch.device("cpu"))
    assert given.dtype == torch.bfloat16
    assert np.shares_memory(given.view(torch.uint16).numpy(), bits)


def test_what_may_not_be_written_is_copied() -> None:
    x = rows(2, 1)
    x.flags.writeable = False
    assert not np.shares_memory(as_tensor(x, "FP32", torch.device("cpu")).numpy(), x)
