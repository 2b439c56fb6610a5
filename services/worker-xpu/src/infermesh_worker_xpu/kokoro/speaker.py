"""Runs the graph of Kokoro through onnxruntime, on the device or, if its providers are not installed, the CPU."""

from pathlib import Path

import numpy as np

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Executor, Item
from infermesh_worker.speaking.interface import IDS, SPEED, STYLES, input_order
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.infer.build import make_executor
from infermesh_worker_xpu.options import DeviceChoice


class OnnxSpeaker:
    """A graph that an executor of tensors runs, one thread at a time."""

    def __init__(self, executor: Executor, names: dict[str, str], output: str) -> None:
        """`names`: what the graph calls IDS, STYLES and SPEED."""
        self._executor = executor
        self._names = names
        self._output = output

    @property
    def info(self) -> RunnerInfo:
        return self._executor.info

    def speak(self, ids: Array, style: Array, speed: float) -> Array:
        """A view of the output, which the next run overwrites."""
        given = {IDS: ids, STYLES: style, SPEED: np.array([speed], np.float32)}
        (outcome,) = self._executor.run([Item(tensors={name: given[which] for which, name in self._names.items()})])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.tensors[self._output].reshape(-1)

    def memory_free_bytes(self) -> int:
        return self._executor.memory_free_bytes()


def load_speaker(
    graph: Path, *, device: DeviceChoice, device_index: int, threads: int, weights_bytes: int
) -> OnnxSpeaker:
    """Opens a graph on a device. Raises FailedPrecondition, also if onnxruntime is not installed."""
    chosen = devices.select(device, device_index)
    executor = make_executor(graph, "onnx", chosen, threads=threads, batched=False, weights_bytes=weights_bytes)
    order = input_order(executor.inputs, executor.outputs)
    names = {which: spec.name for which, spec in zip(order, executor.inputs, strict=True)}
    return OnnxSpeaker(executor, names, executor.outputs[0].name)
