"""What an import finds in a model of tensors, and what it refuses before it copies anything."""

import shutil
from pathlib import Path
from typing import Any

import openvino as ov
import pytest
from onnx import TensorProto

from infermesh_runtime import machine
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from infermesh_worker_cpu.infer.check import describe
from tests.tensor_models.onnx_models import linear, running_sum, same, unknown
from tests.tensor_models.paddle_model import double_and_one
from tests.tensor_models.tflite_model import double


def described(graph: Path) -> dict[str, Any]:
    return describe(graph, progress=lambda _what, _share: None)


def test_an_onnx_file_says_what_it_takes_and_gives(tmp_path: Path) -> None:
    found = described(linear(tmp_path / "m.onnx"))
    assert found["format"] == "onnx"
    assert found["files"] == ["m.onnx"]
    assert found["inputs"] == ({"name": "x", "dtype": "FP32", "shape": (-1, 4)},)
    assert found["outputs"] == ({"name": "y", "dtype": "FP32", "shape": (-1, 3)},)
    assert found["batching"]["max_size"] > 1


def test_weights_beside_the_graph_belong_to_the_model(tmp_path: Path) -> None:
    graph = linear(tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert described(graph)["files"] == ["m.onnx", "m.data"]
    (tmp_path / "m.data").unlink()
    with pytest.raises(InvalidArgument, match=r"needs the file m\.data"):
        described(graph)


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    graph = linear(tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    body = graph.read_bytes()
    graph.write_bytes(body.replace(b"m.data", b"../abc"))
    with pytest.raises(InvalidArgument, match="outside of its folder"):
        described(graph)


def test_openvino_ir_is_a_model_too(tmp_path: Path) -> None:
    ov.save_model(ov.Core().read_model(linear(tmp_path / "m.onnx")), tmp_path / "ir.xml", compress_to_fp16=False)
    found = described(tmp_path / "ir.xml")
    assert (found["format"], found["files"]) == ("openvino", ["ir.xml", "ir.bin"])


def test_paddle_and_tensorflow_lite_are_models_too(tmp_path: Path) -> None:
    paddle = described(double_and_one(tmp_path / "inference.pdmodel"))
    assert (paddle["format"], paddle["files"]) == ("paddle", ["inference.pdmodel", "inference.pdiparams"])
    lite = described(double(tmp_path / "m.tflite"))
    assert (lite["format"], lite["inputs"]) == ("tflite", ({"name": "x", "dtype": "FP32", "shape": (2, 3)},))


def test_an_open_first_dimension_that_is_no_batch_is_not_batched(tmp_path: Path) -> None:
    assert described(running_sum(tmp_path / "m.onnx"))["batching"] is None
    assert described(linear(tmp_path / "n.onnx", first=1))["batching"] is None


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    graph = linear(tmp_path / "m.onnx")
    body = graph.read_bytes()
    for cut in (0, 10, len(body) // 2, len(body) - 3):
        graph.write_bytes(body[:cut])
        with pytest.raises((InvalidArgument, FailedPrecondition), match=r"m\.onnx"):
            described(graph)


def test_operations_that_openvino_does_not_know_are_named(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"com\.acme\.Frobnicate"):
        described(unknown(tmp_path / "m.onnx"))


def test_strings_are_refused_by_the_name_of_the_tensor(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="'x' has the type string"):
        described(same(tmp_path / "m.onnx", TensorProto.STRING))


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = linear(tmp_path / "m.onnx")
    monkeypatch.setattr(machine, "memory_total_bytes", lambda: 100)
    with pytest.raises(ResourceExhausted, match="of memory; this machine has"):
        described(graph)


def test_other_files_are_no_models(tmp_path: Path) -> None:
    shutil.copy(__file__, tmp_path / "m.txt")
    with pytest.raises(InvalidArgument, match=r"expected a file that ends in \.onnx"):
        described(tmp_path / "m.txt")
