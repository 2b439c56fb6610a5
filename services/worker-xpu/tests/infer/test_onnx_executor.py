"""ONNX models on onnxruntime: its own numbers, every type, strings, and the providers in use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_kind import TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Result
from infermesh_worker_xpu import device as devices
from tests.tensor_models.onnx_models import linear, same, save, tensor, two_by_two, unknown

onnxruntime = pytest.importorskip("onnxruntime")

from infermesh_worker_xpu.infer.onnx_executor import OnnxExecutor, as_array, as_value  # noqa: E402 - needs it
from infermesh_worker_xpu.infer.providers import OnnxSession, chain_for, open_session  # noqa: E402 - needs it

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


def build(graph: Path, *, batched: bool = True) -> OnnxExecutor:
    opened = open_session(graph, "cpu", 0, 1)
    return OnnxExecutor(opened, devices.select("cpu", 0), batched=batched, weights_bytes=0)


def tensors(outcome: object) -> Mapping[str, Array]:
    assert isinstance(outcome, Result)
    return {name: array.copy() for name, array in outcome.tensors.items()}


def rows(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype(np.float32)


def test_outputs_are_those_of_onnxruntime_called_directly(tmp_path: Path) -> None:
    executor = build(linear(tmp_path / "m.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    directly = onnxruntime.InferenceSession(tmp_path / "m.onnx", options, providers=["CPUExecutionProvider"])
    for seed in range(50):
        x = rows(1 + seed % 5, seed)
        assert np.array_equal(tensors(executor.run([Item(tensors={"x": x})])[0])["y"], directly.run(None, {"x": x})[0])


def test_a_batch_gives_what_its_requests_give_alone(tmp_path: Path) -> None:
    executor = build(linear(tmp_path / "m.onnx"))
    items = [Item(tensors={"x": rows(count, count)}) for count in (1, 3, 2)]
    alone = [tensors(executor.run([item])[0])["y"] for item in items]
    together = [tensors(outcome)["y"] for outcome in executor.run(items)]
    assert all(np.allclose(one, other, rtol=1e-6) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("onnx_type", TYPES)
def test_every_type_goes_through_unchanged(tmp_path: Path, onnx_type: int) -> None:
    executor = build(same(tmp_path / "m.onnx", onnx_type))
    x = np.array([0, 1, 1, 0, 1]).astype(TYPES[onnx_type])
    got = tensors(executor.run([Item(tensors={"x": x})])[0])["y"]
    assert (got.dtype, got.tobytes()) == (x.dtype, x.tobytes())


def test_strings_go_through_too(tmp_path: Path) -> None:
    executor = build(same(tmp_path / "m.onnx", TensorProto.STRING))
    assert executor.inputs[0].dtype == "BYTES"
    x = np.array(["grün".encode(), b"a" * 100], object)
    assert tensors(executor.run([Item(tensors={"x": x})])[0])["y"].tolist() == ["grün", "a" * 100]
    with pytest.raises(InvalidArgument, match="'x' holds bytes that are no UTF-8"):
        executor.run([Item(tensors={"x": np.array([b"\xff"], object)})])


def test_sizes_that_do_not_fit_are_the_requests_fault(tmp_path: Path) -> None:
    executor = build(two_by_two(tmp_path / "m.onnx"))
    with pytest.raises(InvalidArgument, match=r"'b' \[5, 3\]"):
        executor.run([Item(tensors={"a": np.ones((2, 3), np.int64), "b": np.ones((5, 3), np.int64)})])


def test_scalars_stay_scalars(tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"])
    executor = build(save(tmp_path / "m.onnx", [node], [tensor("x", [])], [tensor("y", [])]))
    assert executor.inputs[0].shape == ()
    got = tensors(executor.run([Item(tensors={"x": np.array(1.5, np.float32)})])[0])["y"]
    assert (got.shape, float(got)) == ((), 3.0)
    assert as_value(np.array(2, np.int64), TensorSpec("x", "INT64", ())).shape() == []


def test_arrays_of_another_order_are_taken(tmp_path: Path) -> None:
    executor = build(linear(tmp_path / "m.onnx"))
    x = rows(4, 1)
    turned, plain = (executor.run([Item(tensors={"x": given})])[0] for given in (x.T, x.T.copy()))
    assert np.array_equal(tensors(turned)["y"], tensors(plain)["y"])


def test_nothing_is_copied_into_onnxruntime_or_back() -> None:
    x, spec = rows(1000, 1), TensorSpec("x", "FP32", (-1, 4))
    value = as_value(x, spec)
    assert value.data_ptr() == x.ctypes.data
    assert np.shares_memory(as_array(value, spec), x)


def test_operations_that_onnxruntime_does_not_know_are_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"m\.onnx: .*Frobnicate"):
        build(unknown(tmp_path / "m.onnx"))


def test_each_device_has_its_chain_of_providers() -> None:
    every = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "OpenVINOExecutionProvider", "CPUExecutionProvider"]
    assert chain_for("cpu", every) == ("OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert chain_for("xpu", every) == ("OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert chain_for("cuda", every) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert chain_for("cuda", ["CPUExecutionProvider"]) == ("CPUExecutionProvider",)


def test_health_names_the_chain_and_the_provider_in_use(tmp_path: Path) -> None:
    executor = build(linear(tmp_path / "m.onnx"))
    assert executor.info.runtime == f"onnxruntime {onnxruntime.__version__} on CPU (asked for CPU)"
    fallen = OnnxSession(
        session=None, chain=("CUDAExecutionProvider", "CPUExecutionProvider"), in_use=("CPUExecutionProvider",)
    )
    assert fallen.runtime.endswith("on CPU (asked for CUDA → CPU)")
