"""Checks the tensors of an Infer request against what the model takes, before the engine process sees them."""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_runtime.tensors import numpy_dtype, type_name, unpack_bytes
from infermesh_worker.executors.wire_tensors import Flat
from infermesh_worker.rpc.tensors.tensor_wire import GivenTensor

MAX_DIMENSIONS = 64
"""As many as numpy's arrays may have."""
_MOST_ELEMENTS = 1 << 62


def check_inputs(tensors: Sequence[GivenTensor], specs: Sequence[TensorSpec]) -> list[Flat]:
    """The tensors as bytes. Raises InvalidArgument, which names the tensor, what was expected and what was given.

    May take long for many strings.
    """
    by_name = {spec.name: spec for spec in specs}
    seen: dict[str, int] = {}
    for index, tensor in enumerate(tensors):
        name = tensor.header.name
        if name not in by_name:
            raise _wrong(f"inputs[{index}].name", name, f"the model has no such input; it takes {_listed(specs)}")
        if name in seen:
            raise _wrong(f"inputs[{index}].name", name, f"was given twice, as inputs[{seen[name]}] already")
        seen[name] = index
    for spec in specs:
        if spec.name not in seen:
            raise _wrong("inputs", spec.name, f"is missing; the model takes {_listed(specs)}")
    return [_check(f"inputs[{index}]", tensor, by_name) for index, tensor in enumerate(tensors)]


def check_outputs(names: Sequence[str], specs: Sequence[TensorSpec]) -> list[str]:
    """The names of the outputs to return. Raises InvalidArgument for an unknown or repeated one."""
    known = [spec.name for spec in specs]
    for index, name in enumerate(names):
        if name not in known:
            raise _wrong(f"outputs[{index}]", name, f"the model has no such output; it gives {_listed(specs)}")
        if name in names[:index]:
            raise _wrong(f"outputs[{index}]", name, "was asked for twice")
    return list(names) or known


def describe(spec: TensorSpec) -> str:
    """A tensor in words, such as "x FP32 [?, 3]"."""
    if spec.shape is None:
        return f"{spec.name!r} {spec.dtype} of any shape"
    return f"{spec.name!r} {spec.dtype} {_show(spec.shape)}"


def _check(field: str, tensor: GivenTensor, by_name: Mapping[str, TensorSpec]) -> Flat:
    header = tensor.header
    spec, shape = by_name[header.name], tuple(header.shape)
    given = type_name(header.dtype)
    if given != spec.dtype:
        problem = f"has dtype {given}, but the model takes {describe(spec)}"
        raise _wrong(f"{field}.dtype", header.name, problem)
    if problem := _shape_problem(shape, spec):
        raise _wrong(f"{field}.shape", header.name, problem)
    if problem := _data_problem(header.dtype, shape, tensor.data):
        raise _wrong(f"{field}.data", header.name, problem)
    return header.name, int(header.dtype), shape, np.frombuffer(tensor.data, np.uint8)


def _shape_problem(shape: tuple[int, ...], spec: TensorSpec) -> str:
    """What is wrong with a shape; "": nothing."""
    if any(extent < 0 for extent in shape):
        return f"has shape {_show(shape)}, which has a negative dimension"
    if len(shape) > MAX_DIMENSIONS:
        return f"has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are possible"
    if prod(extent or 1 for extent in shape) > _MOST_ELEMENTS:
        return f"has shape {_show(shape)}, which is larger than any tensor can be"
    if spec.shape is None:
        return ""
    fits = len(shape) == len(spec.shape) and all(
        wanted in (ANY, extent) for extent, wanted in zip(shape, spec.shape, strict=True)
    )
    return "" if fits else f"has shape {_show(shape)}, but the model takes {describe(spec)}"


def _data_problem(dtype: DataType, shape: tuple[int, ...], data: memoryview) -> str:
    """What is wrong with the data of a tensor of this shape; "": nothing."""
    if dtype == DataType.DATA_TYPE_BYTES:
        try:
            unpack_bytes(bytes(data), shape)
        except ValueError as problem:
            return str(problem)
        return ""
    needed = prod(shape) * numpy_dtype(dtype).itemsize
    if len(data) != needed:
        return f"has {len(data)} bytes of data; {type_name(dtype)} of shape {_show(shape)} needs {needed}"
    if dtype == DataType.DATA_TYPE_BOOL and len(data) and np.frombuffer(data, np.uint8).max() > 1:
        return "has elements other than 0 and 1, but is BOOL"
    return ""


def _show(shape: Sequence[int]) -> str:
    listed = ", ".join("?" if extent == ANY else str(extent) for extent in shape[:8])
    return f"[{listed}, … {len(shape)} dimensions]" if len(shape) > 8 else f"[{listed}]"


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(map(describe, specs)) or "none"


def _wrong(field: str, name: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"tensor {name!r} {problem}", reason="BAD_TENSOR", fields={field: problem})
