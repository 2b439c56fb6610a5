"""Runs an encoder's graph on OpenVINO, one padded batch of texts at a time."""

from collections.abc import Sequence

import numpy as np
import openvino as ov

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime import machine
from infermesh_runtime.errors import Internal
from infermesh_runtime.manifest.text_encoder import Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.executors.text_batches import TextBatch
from infermesh_worker.executors.text_executor import pool
from infermesh_worker.models.encoder_export import IDS, MASK, POSITIONS, TYPES
from infermesh_worker_cpu.infer.compiling import reason_of


class OpenVinoEncoder:
    """A compiled encoder."""

    def __init__(
        self,
        compiled: ov.CompiledModel,
        *,
        pad_id: int,
        position_offset: int,
        output: int,
        context_length: int,
        vocab_size: int,
        weights_bytes: int,
    ) -> None:
        """`output`: index of the one that is read: vectors [texts, tokens, hidden], or scores [texts, 1]."""
        self._request = compiled.create_infer_request()
        self._inputs = [(min(port.get_names()), port.get_element_type().to_dtype()) for port in compiled.inputs]
        self._output = output
        self._offset = position_offset
        self.pad_id = pad_id
        self.info: RunnerInfo = executor_info(
            device_kind="cpu",
            device_name=machine.processor_name(),
            memory_total_bytes=machine.memory_total_bytes(),
            runtime=f"openvino {ov.get_version().partition('-')[0]}",
            weights_bytes=weights_bytes,
            context_length=context_length,
            vocab_size=vocab_size,
        )

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:
        return pool(self._run(batch), batch.mask, pooling)

    def score(self, batch: TextBatch) -> Array:
        return np.array(self._run(batch).reshape(len(batch.ids)), np.float32)

    def memory_free_bytes(self) -> int:
        return machine.memory_available_bytes()

    def close(self) -> None:
        """Nothing to do: the process is about to end."""

    def _run(self, batch: TextBatch) -> Array:
        """The output, as a view that the next run overwrites."""
        given = {IDS: batch.ids, MASK: batch.mask, TYPES: batch.types}
        tokens = batch.ids.shape[1]
        given[POSITIONS] = np.broadcast_to(np.arange(tokens, dtype=np.int32) + self._offset, batch.ids.shape)
        inputs: Sequence[Array] = [given[name].astype(dtype) for name, dtype in self._inputs]
        try:
            self._request.infer(list(inputs), share_inputs=True)
        except RuntimeError as error:
            raise Internal(f"OpenVINO could not run the model: {reason_of(error)}") from error
        found: Array = self._request.get_output_tensor(self._output).data
        return found
