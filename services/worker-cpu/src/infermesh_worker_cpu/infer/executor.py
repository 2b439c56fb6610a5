"""Runs batches of a model of tensors on OpenVINO, without copying what a batch of one request holds."""

import threading
from collections.abc import Hashable, Mapping, Sequence

import openvino as ov

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime import machine
from infermesh_runtime.errors import InfermeshError, Internal, InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Outcome, executor_info
from infermesh_worker.executors.stacking import results, rows, stack, stackable

from .compiling import reason_of
from .describe import inputs_of, outputs_of
from .types import as_array, as_tensor


class OpenVinoExecutor:
    """A compiled model. Each thread that runs it has an inference request of its own."""

    def __init__(self, compiled: ov.CompiledModel, *, batched: bool, weights_bytes: int) -> None:
        """`batched`: whether requests may be joined along their first dimension."""
        self._compiled = compiled
        self._batched = batched
        self._own = threading.local()
        self.inputs, self.outputs = inputs_of(compiled), outputs_of(compiled)
        self._dynamic = any(spec.shape is None or ANY in spec.shape for spec in self.inputs)
        self.parallel = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.info: RunnerInfo = executor_info(
            device_kind="cpu",
            device_name=machine.processor_name(),
            memory_total_bytes=machine.memory_total_bytes(),
            runtime=f"openvino {ov.get_version().partition('-')[0]}",
            weights_bytes=weights_bytes,
        )

    def group(self, item: Item) -> Hashable | None:
        return stackable(item) if self._batched else None

    def size(self, item: Item) -> int:
        return rows(item)

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return results(self._infer(stack(items)), items)

    def memory_free_bytes(self) -> int:
        return machine.memory_available_bytes()

    def close(self) -> None:
        """Nothing to do: the process is about to end."""

    def _infer(self, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        """The outputs, as views that the thread's next run overwrites."""
        request = self._request()
        try:
            held = [as_tensor(tensors[spec.name], spec.dtype) for spec in self.inputs]
            for index, tensor in enumerate(held):
                request.set_input_tensor(index, tensor)
            request.infer()
        except RuntimeError as error:
            raise self._explained(error, tensors) from error
        return {spec.name: as_array(request.get_output_tensor(i), spec.dtype) for i, spec in enumerate(self.outputs)}

    def _request(self) -> ov.InferRequest:
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        request: ov.InferRequest = self._own.request
        return request

    def _explained(self, error: RuntimeError, tensors: Mapping[str, Array]) -> InfermeshError:
        """Where sizes are open, they are what a model can fail on: they do not fit each other."""
        if not self._dynamic:
            return Internal(f"OpenVINO could not run the model: {reason_of(error)}")
        shapes = ", ".join(f"{name!r} {list(array.shape)}" for name, array in tensors.items())
        problem = f"the model cannot run with the shapes {shapes}: {reason_of(error)}"
        return InvalidArgument(problem, reason="BAD_TENSOR", fields={"inputs": problem})
