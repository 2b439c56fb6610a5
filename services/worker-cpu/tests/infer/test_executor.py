"""Models of tensors on OpenVINO: the numbers of the runtime called directly, alone and in batches, of every type."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino as ov
import pytest
from onnx import TensorProto

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Result
from infermesh_worker_cpu.infer.compiling import InferOptions, compile_for_cpu, read
from infermesh_worker_cpu.infer.executor import OpenVinoExecutor
from tests.tensor_models.onnx_models import linear, same, two_by_two
from tests.tensor_models.paddle_model import double_and_one
from tests.tensor_models.tflite_model import double

TYPES: dict[int, np.dtype[Any]] = {
    TensorProto.BOOL: np.dtype(bool),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.INT16: np.dtype(np.int16),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.UINT16: np.dtype(np.uint16),
    TensorProto.UINT32: np.dtype(np.uint32),
    TensorProto.UINT64: np.dtype(np.uint64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    TensorProto.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
}


def build(graph: Path, *, batched: bool = True) -> OpenVinoExecutor:
    core = ov.Core()
    compiled = compile_for_cpu(core, read(core, graph), InferOptions(batched=batched), None)
    return OpenVinoExecutor(compiled, batched=batched, weights_bytes=0)


def tensors(outcome: object) -> Mapping[str, Array]:
    assert isinstance(outcome, Result)
    return {name: array.copy() for name, array in outcome.tensors.items()}


def rows(count: int, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def linear_executor(tmp_path_factory: pytest.TempPathFactory) -> OpenVinoExecutor:
    return build(linear(tmp_path_factory.mktemp("m") / "m.onnx"))


@pytest.fixture(scope="module")
def directly(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Array], Array]:
    compiled = ov.compile_model(linear(tmp_path_factory.mktemp("m") / "m.onnx"), "CPU")
    return lambda x: np.array(compiled(x)[0])


def test_outputs_are_those_of_the_runtime_called_directly(
    linear_executor: OpenVinoExecutor, directly: Callable[[Array], Array]
) -> None:
    for seed in range(50):
        x = rows(1 + seed % 5, seed)
        (outcome,) = linear_executor.run([Item(tensors={"x": x})])
        assert np.array_equal(tensors(outcome)["y"], directly(x))


def test_a_batch_gives_what_its_requests_give_alone(linear_executor: OpenVinoExecutor) -> None:
    items = [Item(tensors={"x": rows(count, count)}) for count in (1, 3, 2)]
    assert len({linear_executor.group(item) for item in items}) == 1
    alone = [tensors(linear_executor.run([item])[0])["y"] for item in items]
    together = [tensors(outcome)["y"] for outcome in linear_executor.run(items)]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("onnx_type", TYPES)
def test_every_type_goes_through_unchanged(tmp_path: Path, onnx_type: int) -> None:
    executor = build(same(tmp_path / "m.onnx", onnx_type))
    x = np.array([0, 1, 1, 0, 1]).astype(TYPES[onnx_type])
    got = tensors(executor.run([Item(tensors={"x": x})])[0])["y"]
    assert got.tobytes() == x.tobytes()


def test_a_model_with_several_tensors_gives_those_asked_for(tmp_path: Path) -> None:
    executor = build(two_by_two(tmp_path / "m.onnx"))
    item = Item(params={"outputs": ["product"]}, tensors={"a": np.full((2, 3), 7), "b": np.full((2, 3), 6)})
    assert {name: array.tolist() for name, array in tensors(executor.run([item])[0]).items()} == {
        "product": [[42, 42, 42], [42, 42, 42]]
    }


def test_tensors_that_do_not_fit_each_other_are_the_requests_fault(tmp_path: Path) -> None:
    executor = build(two_by_two(tmp_path / "m.onnx"))
    with pytest.raises(InvalidArgument, match=r"'b' \[5, 3\]"):
        executor.run([Item(tensors={"a": np.ones((2, 3), np.int64), "b": np.ones((5, 3), np.int64)})])


def test_a_paddle_model_runs(tmp_path: Path) -> None:
    executor = build(double_and_one(tmp_path / "inference.pdmodel"))
    x = rows(2, 5)
    assert np.allclose(tensors(executor.run([Item(tensors={"x": x})])[0])["y"], 2 * x + 1, rtol=1e-2)


def test_a_tensorflow_lite_model_runs(tmp_path: Path) -> None:
    executor = build(double(tmp_path / "m.tflite"), batched=False)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(tensors(executor.run([Item(tensors={"x": x})])[0])["y"], 2 * x)


def test_nothing_is_copied_on_the_way_into_the_runtime(linear_executor: OpenVinoExecutor) -> None:
    x = rows(1000, 1)
    linear_executor.run([Item(tensors={"x": x})])
    held = linear_executor._request().get_input_tensor(0)
    assert np.shares_memory(held.data, x)


def test_without_a_batch_axis_requests_run_alone_and_in_parallel(tmp_path: Path) -> None:
    executor = build(linear(tmp_path / "m.onnx", first=1), batched=False)
    assert executor.group(Item(tensors={"x": rows(1, 1)})) is None
    assert executor.parallel >= 1
