"""Tensors that a model does not take are refused, by the name of the tensor and of the field that is wrong."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.rpc.tensors.infer_inputs import check_inputs, check_outputs
from infermesh_worker.rpc.tensors.tensor_wire import GivenTensor

SPECS = (TensorSpec("x", "FP32", (ANY, 3)), TensorSpec("any", "INT64", None))
X = Tensor(name="x", dtype=DataType.DATA_TYPE_FP32, shape=[2, 3], data=bytes(24))
ANYTHING = Tensor(name="any", dtype=DataType.DATA_TYPE_INT64, shape=[], data=bytes(8))


def given_tensors(*tensors: Tensor) -> list[GivenTensor]:
    return [GivenTensor(tensor, memoryview(tensor.data)) for tensor in tensors]


def changed(**fields: object) -> Tensor:
    tensor = Tensor()
    tensor.CopyFrom(X)
    for name, value in fields.items():
        if name == "shape":
            del tensor.shape[:]
            tensor.shape.extend(value)  # type: ignore[arg-type] # a list of numbers
        else:
            setattr(tensor, name, value)
    return tensor


def refused(*tensors: Tensor) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        check_inputs(given_tensors(*tensors), SPECS)
    assert caught.value.reason == "BAD_TENSOR"
    return caught.value


def test_what_the_model_takes_is_taken() -> None:
    nan = from_numpy(np.full((2, 3), np.nan, np.float32), name="x")
    flat = check_inputs(given_tensors(nan, ANYTHING), SPECS)
    assert [(name, shape) for name, _, shape, _ in flat] == [("x", (2, 3)), ("any", ())]
    empty = changed(shape=[0, 3], data=b"")
    assert check_inputs(given_tensors(empty, ANYTHING), SPECS)[0][3].size == 0


@pytest.mark.parametrize(
    ("tensor", "field", "words"),
    [
        (changed(name="z"), "inputs[0].name", "no such input; it takes 'x' FP32 [?, 3], 'any' INT64 of any shape"),
        (changed(name=""), "inputs[0].name", "no such input"),
        (changed(dtype=DataType.DATA_TYPE_FP64), "inputs[0].dtype", "has dtype FP64, but the model takes 'x' FP32"),
        (changed(dtype=DataType.DATA_TYPE_UNSPECIFIED), "inputs[0].dtype", "has dtype UNSPECIFIED"),
        (changed(dtype=77), "inputs[0].dtype", "has dtype 77"),
        (changed(shape=[6]), "inputs[0].shape", "has shape [6], but the model takes 'x' FP32 [?, 3]"),
        (changed(shape=[2, 4], data=bytes(32)), "inputs[0].shape", "has shape [2, 4]"),
        (changed(shape=[-2, 3]), "inputs[0].shape", "has a negative dimension"),
        (changed(shape=[2**62, 2**62]), "inputs[0].shape", "larger than any tensor can be"),
        (changed(shape=[1] * 65), "inputs[0].shape", "has 65 dimensions; at most 64"),
        (changed(data=bytes(23)), "inputs[0].data", "has 23 bytes of data; FP32 of shape [2, 3] needs 24"),
        (changed(data=bytes(25)), "inputs[0].data", "has 25 bytes"),
    ],
)
def test_a_tensor_that_differs_is_refused_by_its_field(tensor: Tensor, field: str, words: str) -> None:
    error = refused(tensor, ANYTHING)
    assert [*error.fields] == [field]
    assert words in error.message


def test_missing_and_repeated_inputs_are_named() -> None:
    assert "tensor 'any' is missing" in refused(X).message
    assert [*refused(X, ANYTHING, X).fields] == ["inputs[2].name"]


def test_outputs_are_those_that_the_model_has() -> None:
    assert check_outputs([], SPECS) == ["x", "any"]
    assert check_outputs(["any"], SPECS) == ["any"]
    for names in (["nix"], ["x", "x"]):
        with pytest.raises(InvalidArgument):
            check_outputs(names, SPECS)


def test_strings_and_booleans_are_checked_too() -> None:
    specs = (TensorSpec("s", "BYTES", (2,)), TensorSpec("b", "BOOL", (2,)))
    strings = from_numpy(np.array([b"", b"x"], object), name="s")
    good = Tensor(name="b", dtype=DataType.DATA_TYPE_BOOL, shape=[2], data=b"\x00\x01")
    assert len(check_inputs(given_tensors(strings, good), specs)) == 2
    strings.data = strings.data[:-1]
    bad = Tensor(name="b", dtype=DataType.DATA_TYPE_BOOL, shape=[2], data=b"\x00\x02")
    for tensors in ((strings, good), (from_numpy(np.array([b"", b"x"], object), name="s"), bad)):
        with pytest.raises(InvalidArgument):
            check_inputs(given_tensors(*tensors), specs)


FUZZED = st.builds(
    Tensor,
    name=st.sampled_from(["x", "any", "z", ""]),
    dtype=st.sampled_from(DataType.values()),
    shape=st.lists(st.one_of(st.integers(-2, 4), st.integers(-(2**63), 2**63 - 1)), max_size=4),
    data=st.binary(max_size=40),
)


@given(st.lists(FUZZED, max_size=4))
def test_any_tensors_are_taken_or_refused(tensors: list[Tensor]) -> None:
    with suppress(InvalidArgument):
        check_inputs(given_tensors(*tensors), SPECS)
