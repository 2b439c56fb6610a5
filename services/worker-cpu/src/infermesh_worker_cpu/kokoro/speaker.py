"""Runs the graph of Kokoro on OpenVINO.

It computes in float32: with less, its sound is not finite. Kernels are not kept for each length: keeping them saves a
hundredth of the time, and took 20 MB for each of 40 lengths.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import openvino as ov

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime import machine
from infermesh_runtime.errors import Internal
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.speaking.interface import IDS, SPEED, STYLES, input_order
from infermesh_worker_cpu.infer.compiling import InferOptions, compile_for_cpu, read, reason_of
from infermesh_worker_cpu.infer.describe import inputs_of, outputs_of

from .noise import fix_noise


class OpenVinoSpeaker:
    """A compiled graph, for one thread at a time."""

    def __init__(self, compiled: ov.CompiledModel, order: Sequence[str], *, weights_bytes: int) -> None:
        """`order`: which of IDS, STYLES and SPEED each input is."""
        self._order = order
        self._request = compiled.create_infer_request()
        self.info: RunnerInfo = executor_info(
            device_kind="cpu",
            device_name=machine.processor_name(),
            memory_total_bytes=machine.memory_total_bytes(),
            runtime=f"openvino {ov.get_version().partition('-')[0]}",
            weights_bytes=weights_bytes,
        )

    def speak(self, ids: Array, style: Array, speed: float) -> Array:
        """A view of the output, which the next run overwrites."""
        given = {IDS: ids, STYLES: style, SPEED: np.array([speed], np.float32)}
        try:
            self._request.infer([given[name] for name in self._order])
        except RuntimeError as error:
            raise Internal(f"OpenVINO could not run the model: {reason_of(error)}") from error
        found: Array = self._request.get_output_tensor(0).data
        return found.reshape(-1)

    def memory_free_bytes(self) -> int:
        return machine.memory_available_bytes()


def load_speaker(graph: Path, *, threads: int, weights_bytes: int, folder: Path | None) -> OpenVinoSpeaker:
    """Compiles a graph. `folder`: as for compile_for_cpu. Raises FailedPrecondition and ResourceExhausted."""
    core = ov.Core()
    model = read(core, graph)
    order = input_order(inputs_of(model), outputs_of(model))
    fix_noise(model)
    options = InferOptions(threads=threads, batched=True, float32=True, keep_shapes=False)
    return OpenVinoSpeaker(compile_for_cpu(core, model, options, folder), order, weights_bytes=weights_bytes)
