"""Runs batches of a program of torch, without copying what a batch of one request holds on the CPU."""

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, InvalidArgument, ResourceExhausted
from infermesh_runtime.manifest.model_kind import TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Outcome, executor_info
from infermesh_worker.executors.stacking import results, rows, stack, stackable
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.infer.dtypes import TYPES, as_array, as_tensor
from infermesh_worker_xpu.infer.program import Program
from infermesh_worker_xpu.memory_errors import is_out_of_memory


class TorchExecutor:
    """A program on a device. One batch runs at a time, on all of the device."""

    def __init__(self, program: Program, device: TorchDevice, *, batched: bool, weights_bytes: int) -> None:
        """`batched`: whether requests may be joined along their first dimension."""
        self._program = program
        self._device = device
        self._batched = batched
        self.inputs, self.outputs = program.inputs, program.outputs
        self.parallel = 1
        self.info: RunnerInfo = executor_info(
            device_kind=device.kind,
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=f"torch {torch.__version__}",
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

    @torch.inference_mode()
    def _call(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        handle = self._device.handle
        try:
            given = [as_tensor(tensors[spec.name], spec.dtype, handle) for spec in self.inputs]
            found = self._program.call(given)
            return {spec.name: _output(tensor, spec) for spec, tensor in zip(self.outputs, found, strict=True)}
        except InfermeshError:
            raise
        except Exception as error:  # torch raises errors of every kind
            raise self._explained(error, tensors) from error

    def _explained(self, error: Exception, tensors: Mapping[str, Array]) -> InfermeshError:
        """Names and types were right, so a program fails on sizes that do not fit, or on what the tensors hold."""
        if is_out_of_memory(error):
            self._device.release_memory()
            return ResourceExhausted("the device has too little memory for these tensors", reason="OUT_OF_MEMORY")
        shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in tensors.items())
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        problem = f"the model cannot run on {shapes}: {lines[-1] if lines else type(error).__name__}"
        return InvalidArgument(problem, reason="BAD_TENSOR", fields={"inputs": problem})


def _output(tensor: Tensor, spec: TensorSpec) -> Array:
    if tensor.dtype != TYPES[spec.dtype]:
        raise FailedPrecondition(f"output {spec.name!r} is {tensor.dtype}, not {spec.dtype} as it was described")
    return as_array(tensor, spec.dtype)
