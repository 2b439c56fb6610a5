"""Tensor ↔ numpy: every dtype round-trips without a copy, and inconsistent tensors are refused by name."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime import tensors
from infermesh_runtime.errors import InvalidArgument

DENSE = [value for value in DataType.values() if value not in {0, DataType.DATA_TYPE_BYTES}]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def refuse(tensor: Tensor) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        tensors.to_numpy(tensor, field="inputs[0]")
    assert repr(tensor.name or "inputs[0]") in refused.value.message
    assert list(refused.value.fields) == ["inputs[0]"]
    return refused.value


def random_tensor(draw: Any) -> Tensor:
    dtype = draw(st.sampled_from(DENSE))
    shape = draw(SHAPES)
    size = int(np.prod(shape)) * tensors.numpy_dtype(dtype).itemsize
    element = st.integers(0, 1) if dtype == DataType.DATA_TYPE_BOOL else st.integers(0, 255)
    data = bytes(draw(st.lists(element, min_size=size, max_size=size))) if size < 64 else bytes(size)
    return Tensor(name=draw(st.sampled_from(["", "x"])), dtype=dtype, shape=shape, data=data)


@given(st.data())
def test_dense_tensors_round_trip(data: st.DataObject) -> None:
    tensor = random_tensor(data.draw)
    array = tensors.to_numpy(tensor, field="inputs[0]")
    assert array.shape == tuple(tensor.shape)
    assert not array.flags.writeable
    assert not array.flags.owndata, "the elements were copied"
    assert tensors.from_numpy(array, name=tensor.name, dtype=tensor.dtype) == tensor


@given(st.data(), st.integers(-3, 9).filter(bool))
def test_any_other_byte_length_is_refused(data: st.DataObject, difference: int) -> None:
    tensor = random_tensor(data.draw)
    right = tensor.data
    tensor.data = right[:difference] if difference < 0 else right + bytes(difference)
    if tensor.data != right:
        refuse(tensor)


@given(st.data(), st.integers(-(2**63), -1))
def test_negative_dimensions_are_refused(data: st.DataObject, extent: int) -> None:
    tensor = random_tensor(data.draw)
    tensor.shape.insert(data.draw(st.integers(0, len(tensor.shape))), extent)
    assert "negative" in refuse(tensor).message


@given(st.lists(st.integers(2**20, 2**63 - 1), min_size=1, max_size=100), st.sampled_from(DENSE))
def test_overflowing_shapes_are_refused(shape: list[int], dtype: DataType) -> None:
    refuse(Tensor(dtype=dtype, shape=shape, data=b"12345678"))
    refuse(Tensor(dtype=DataType.DATA_TYPE_BYTES, shape=shape, data=b"\0\0\0\0"))


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0] * 65, [1] * 100])
@pytest.mark.parametrize("dtype", [DataType.DATA_TYPE_INT8, DataType.DATA_TYPE_BYTES])
def test_shapes_beyond_arrays_are_refused(shape: list[int], dtype: DataType) -> None:
    count = int(0 not in shape)
    data = bytes(4 * count) if dtype == DataType.DATA_TYPE_BYTES else bytes(count)
    assert "too large for an array" in refuse(Tensor(dtype=dtype, shape=shape, data=data)).message


@pytest.mark.parametrize("dtype", [0, 17, 99, -1])
def test_other_dtypes_are_refused(dtype: DataType) -> None:
    refuse(Tensor(name="t", dtype=dtype, shape=[1], data=b"x"))


def test_a_bool_is_zero_or_one() -> None:
    refuse(Tensor(dtype=DataType.DATA_TYPE_BOOL, shape=[2], data=b"\x01\x02"))


def test_a_missing_payload_is_an_empty_one() -> None:
    assert tensors.to_numpy(Tensor(dtype=DataType.DATA_TYPE_FP32, shape=[0, 3]), field="x").shape == (0, 3)
    refuse(Tensor(dtype=DataType.DATA_TYPE_FP32, shape=[1]))


elements = st.lists(st.binary(max_size=9), max_size=6)


@given(elements)
def test_bytes_round_trip(values: list[bytes]) -> None:
    array = np.empty(len(values), object)
    array[:] = values
    tensor = tensors.from_numpy(array, name="b")
    assert tensor.data == b"".join(struct.pack("<I", len(v)) + v for v in values)
    got = tensors.to_numpy(tensor, field="inputs[0]")
    assert got.tolist() == values
    assert not got.flags.writeable


@given(elements.filter(bool), st.data())
def test_bytes_cut_or_extended_anywhere_are_refused(values: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(struct.pack("<I", len(v)) + v for v in values)
    cut = data.draw(st.integers(0, len(whole) - 1))
    refuse(Tensor(dtype=DataType.DATA_TYPE_BYTES, shape=[len(values)], data=whole[:cut]))
    refuse(
        Tensor(dtype=DataType.DATA_TYPE_BYTES, shape=[len(values)], data=whole + b"\0" * data.draw(st.integers(1, 9)))
    )
    refuse(Tensor(dtype=DataType.DATA_TYPE_BYTES, shape=[len(values) + 1], data=whole))


@given(st.binary(max_size=40), st.integers(0, 6))
def test_arbitrary_bytes_are_read_or_refused(data: bytes, count: int) -> None:
    tensor = Tensor(dtype=DataType.DATA_TYPE_BYTES, shape=[count], data=data)
    try:
        array = tensors.to_numpy(tensor, field="inputs[0]")
    except InvalidArgument:
        return
    assert tensors.from_numpy(array) == tensor


def test_text_becomes_utf8() -> None:
    tensor = tensors.from_numpy(np.array([["é", "日本"]]))
    assert list(tensor.shape) == [1, 2]
    assert tensors.to_numpy(tensor, field="x").tolist() == [["é".encode(), "日本".encode()]]


def test_strides_and_byte_order_do_not_matter() -> None:
    big = np.arange(12, dtype=">i4").reshape(3, 4).T
    tensor = tensors.from_numpy(big)
    assert tensor.dtype == DataType.DATA_TYPE_INT32
    np.testing.assert_array_equal(tensors.to_numpy(tensor, field="x"), big)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.zeros(1, complex), None),
        (np.zeros(1, "M8[s]"), None),
        (np.array([1, "a"], object), None),
        (np.zeros(1, "f4"), DataType.DATA_TYPE_INT32),
        (np.zeros(1, "u1"), DataType.DATA_TYPE_BF16),
        (np.zeros(1, "f4"), DataType.DATA_TYPE_UNSPECIFIED),
        (np.zeros(1, "f4"), 99),
    ],
)
def test_arrays_that_are_no_such_tensor_are_refused(array: NDArray[Any], dtype: DataType | None) -> None:
    with pytest.raises(InvalidArgument, match="'logits'"):
        tensors.from_numpy(array, name="logits", dtype=dtype)


SMALL_FLOATS = [
    (DataType.DATA_TYPE_BF16, b"\x80\x3f", np.uint16, "bfloat16"),
    (DataType.DATA_TYPE_FP8_E4M3, b"\x38", np.uint8, "float8_e4m3fn"),
    (DataType.DATA_TYPE_FP8_E5M2, b"\x3c", np.uint8, "float8_e5m2"),
]


@pytest.mark.parametrize(("dtype", "one", "raw", "name"), SMALL_FLOATS)
def test_small_floats_with_ml_dtypes(dtype: DataType, one: bytes, raw: type[np.generic], name: str) -> None:
    pytest.importorskip("ml_dtypes")
    array = tensors.to_numpy(Tensor(dtype=dtype, shape=[], data=one), field="x")
    assert array.dtype.name == name
    assert float(array) == 1.0
    assert tensors.from_numpy(array).dtype == dtype


@pytest.mark.parametrize(("dtype", "one", "raw", "name"), SMALL_FLOATS)
def test_small_floats_without_ml_dtypes_are_bits(
    monkeypatch: pytest.MonkeyPatch, dtype: DataType, one: bytes, raw: type[np.generic], name: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    tensors.dense_types.cache_clear()
    try:
        array = tensors.to_numpy(Tensor(dtype=dtype, shape=[1], data=one), field="x")
        assert array.dtype == raw
        assert tensors.from_numpy(array, dtype=dtype).data == one
        assert tensors.from_numpy(array).dtype != dtype
    finally:
        tensors.dense_types.cache_clear()
