"""Turns the typed contents of gRPC messages into elements, and back. Raw contents never come here."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_router.kserve.tensors.datatypes import BYTES, NAMES, bad_tensor, check_size, count_elements, show
from infermesh_router.kserve.tensors.values import Output
from infermesh_runtime.tensors import from_numpy, numpy_dtype, to_numpy

_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def from_contents(name: str, dtype: DataType, shape: tuple[int, ...], contents: oip.InferTensorContents) -> bytes:
    """The elements of typed contents, as Tensor.data holds them. Raises InvalidArgument, which names the tensor."""
    field = _FIELDS.get(NAMES[dtype])
    if field is None:
        raise bad_tensor(name, f"is {NAMES[dtype]}, which has no typed contents: send it in raw_input_contents")
    filled = [found.name for found, _ in contents.ListFields()]
    if filled not in ([], [field]):
        raise bad_tensor(name, f"is {NAMES[dtype]}, whose elements belong in {field}, not in {', '.join(filled)}")
    elements, count = getattr(contents, field), count_elements(name, shape)
    if len(elements) != count:
        raise bad_tensor(name, f"has the shape {show(shape)} and needs {count} elements; it has {len(elements)}")
    if dtype == BYTES:
        return bytes(from_numpy(_objects(elements, count), name=name, dtype=dtype).data)
    return _narrow(name, dtype, np.fromiter(elements, _wide(field), count)).tobytes()


def to_contents(output: Output) -> oip.InferTensorContents | None:
    """The typed contents of an output; None if its type has none."""
    field = _FIELDS.get(NAMES[output.dtype])
    if field is None:
        return None
    array = output_array(output).ravel()
    return oip.InferTensorContents(**{field: array.tolist()})


def output_array(output: Output) -> NDArray[Any]:
    """The elements of an output as an array of its shape. Raises InvalidArgument if an endpoint's answer is wrong."""
    check_size(output.name, output.dtype, output.shape, len(output.data))
    tensor = Tensor(name=output.name, dtype=output.dtype, shape=output.shape, data=bytes(output.data))
    return to_numpy(tensor, field=output.name)


def _wide(field: str) -> np.dtype[Any]:
    """The type in which protobuf gives the elements of a field."""
    names = {"bool": "?", "int": "<i4", "int64": "<i8", "uint": "<u4", "uint64": "<u8", "fp32": "<f4", "fp64": "<f8"}
    return np.dtype(names[field.removesuffix("_contents")])


def _narrow(name: str, dtype: DataType, wide: NDArray[Any]) -> NDArray[Any]:
    kind = numpy_dtype(dtype)
    if kind.kind in "iu" and wide.size:
        limits = np.iinfo(kind)
        if int(wide.min()) < limits.min or int(wide.max()) > limits.max:
            raise bad_tensor(name, f"is {NAMES[dtype]}, whose elements are from {limits.min} to {limits.max}")
    return wide.astype(kind, copy=False)


def _objects(elements: Iterable[bytes], count: int) -> NDArray[Any]:
    array = np.empty(count, object)
    for index, element in enumerate(elements):
        array[index] = element
    return array
