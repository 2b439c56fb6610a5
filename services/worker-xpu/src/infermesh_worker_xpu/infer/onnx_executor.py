"""Runs batches of an ONNX model on onnxruntime, without copying what a batch of one request holds on the CPU."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, ResourceExhausted
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_runtime.tensors import Array, named_type
from infermesh_worker.executors.executor import Item, Outcome, executor_info
from infermesh_worker.executors.stacking import results, rows, stack, stackable
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.infer.program import check_names
from infermesh_worker_xpu.infer.providers import OnnxSession, is_too_little_memory, reason_of

_TYPES: Mapping[str, tuple[str, int]] = {
    "tensor(bool)": ("BOOL", 9),
    "tensor(int8)": ("INT8", 3),
    "tensor(int16)": ("INT16", 5),
    "tensor(int32)": ("INT32", 6),
    "tensor(int64)": ("INT64", 7),
    "tensor(uint8)": ("UINT8", 2),
    "tensor(uint16)": ("UINT16", 4),
    "tensor(uint32)": ("UINT32", 12),
    "tensor(uint64)": ("UINT64", 13),
    "tensor(float16)": ("FP16", 10),
    "tensor(bfloat16)": ("BF16", 16),
    "tensor(float)": ("FP32", 1),
    "tensor(double)": ("FP64", 11),
    "tensor(float8e4m3fn)": ("FP8_E4M3", 17),
    "tensor(float8e5m2)": ("FP8_E5M2", 19),
    "tensor(string)": ("BYTES", 8),
}
"""By onnxruntime's name: our name, and ONNX's number (TensorProto.DataType)."""
_CODES = dict(_TYPES.values())


class OnnxExecutor:
    """A session of onnxruntime. One batch runs at a time, on all of the device."""

    def __init__(self, opened: OnnxSession, device: TorchDevice, *, batched: bool, weights_bytes: int) -> None:
        """`batched`: whether requests may be joined along their first dimension."""
        self._session = opened.session
        self._device = device
        self._batched = batched
        self.inputs = _specs(self._session.get_inputs(), "input")
        self.outputs = _specs(self._session.get_outputs(), "output")
        self._strings = any(spec.dtype == "BYTES" for spec in (*self.inputs, *self.outputs))
        self.parallel = 1
        self.info: RunnerInfo = executor_info(
            device_kind=opened.device_kind(device.kind),
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=opened.runtime,
            weights_bytes=weights_bytes,
        )

    def group(self, item: Item) -> Hashable | None:
        return stackable(item) if self._batched else None

    def size(self, item: Item) -> int:
        return rows(item)

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return results(self._call(stack(items)), items)

    def memory_free_bytes(self) -> int:
        return self._device.memory_bytes()[0]

    def close(self) -> None:
        """Nothing to do: the process is about to end."""

    def _call(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs, as views of memory that is theirs while they live."""
        names = [spec.name for spec in self.outputs]
        if self._strings:  # which onnxruntime takes from arrays only
            arrays = {spec.name: _decoded(tensors[spec.name], spec) for spec in self.inputs}
            return dict(zip(names, self._run(self._session.run, names, arrays), strict=True))
        given = {spec.name: as_value(tensors[spec.name], spec) for spec in self.inputs}
        found = self._run(self._session.run_with_ort_values, names, given)
        return {spec.name: as_array(value, spec) for spec, value in zip(self.outputs, found, strict=True)}

    @staticmethod
    def _run(run: Callable[..., Sequence[Any]], names: Sequence[str], given: Mapping[str, Any]) -> Sequence[Any]:
        try:
            return run(names, given)
        except Exception as error:  # its exceptions have no common base
            raise _explained(error, given) from error


def as_value(array: Array, spec: TensorSpec) -> Any:
    """onnxruntime's tensor over an array's memory."""
    dense = array if array.flags.c_contiguous else array.copy(order="C")  # np.ascontiguousarray makes scalars [1]
    if spec.dtype in {"BF16", "FP8_E4M3", "FP8_E5M2"}:
        bits = dense.view(f"u{dense.itemsize}")
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, _CODES[spec.dtype])
    return onnxruntime.OrtValue.ortvalue_from_numpy(dense)


def as_array(value: Any, spec: TensorSpec) -> Array:
    """The elements of onnxruntime's tensor, a view of its memory, which lives as long as the view."""
    dtype = named_type(spec.dtype)
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype)
    elements: Array = np.asarray(_Memory(value, count * dtype.itemsize))
    return elements.view(dtype).reshape(shape)


class _Memory:
    """The bytes of onnxruntime's tensor, for numpy, which holds on to this object and so to the tensor."""

    def __init__(self, value: Any, size: int) -> None:
        self._value = value
        where = (value.data_ptr(), True)  # not to be written
        self.__array_interface__ = {"data": where, "shape": (size,), "typestr": "|u1", "version": 3}


def _decoded(array: Array, spec: TensorSpec) -> Array:
    """The array as onnxruntime takes it: strings as `str`. Raises InvalidArgument if they are not UTF-8."""
    if spec.dtype != "BYTES":
        return array
    decoded = np.empty(array.size, object)
    try:
        decoded[:] = [element.decode() for element in array.flat]
    except UnicodeDecodeError:
        problem = f"tensor {spec.name!r} holds bytes that are no UTF-8, which onnxruntime's strings must be"
        raise InvalidArgument(problem, reason="BAD_TENSOR", fields={"inputs": problem}) from None
    return decoded.reshape(array.shape)


def _specs(found: Sequence[Any], what: str) -> tuple[TensorSpec, ...]:
    """The tensors that a session takes or gives. Raises FailedPrecondition for what cannot be served."""
    specs: list[TensorSpec] = []
    for port in found:
        if port.type not in _TYPES:
            raise FailedPrecondition(
                f"the tensor {port.name!r} has the type {port.type}, which worker-xpu cannot serve",
                reason="MODEL_NOT_SUPPORTED",
            )
        shape = None if port.shape is None else tuple(e if isinstance(e, int) and e >= 0 else ANY for e in port.shape)
        specs.append(TensorSpec(port.name, _TYPES[port.type][0], shape))
    check_names("the model", specs, what)
    return tuple(specs)


def _explained(error: Exception, tensors: Mapping[str, Any]) -> InfermeshError:
    """Names and types were right, so a model fails on sizes that do not fit, or on what the tensors hold."""
    reason = reason_of(error)
    if is_too_little_memory(error):
        return ResourceExhausted("the device has too little memory for these tensors", reason="OUT_OF_MEMORY")
    shapes = ", ".join(f"{name!r} {_shape_of(value)}" for name, value in tensors.items())
    problem = f"the model cannot run on {shapes}: {reason}"
    return InvalidArgument(problem, reason="BAD_TENSOR", fields={"inputs": problem})


def _shape_of(value: Any) -> list[int]:
    """The shape of an array, or of onnxruntime's tensor."""
    return list(value.shape() if callable(value.shape) else value.shape)
