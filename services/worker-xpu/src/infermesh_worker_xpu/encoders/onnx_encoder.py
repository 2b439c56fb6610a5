"""Runs the ONNX export of an encoder on onnxruntime, one padded batch of texts at a time."""

from pathlib import Path

import numpy as np

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Internal, ResourceExhausted
from infermesh_runtime.manifest.text_encoder import Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.executors.text_batches import TextBatch
from infermesh_worker.executors.text_executor import pool
from infermesh_worker.models.encoder_export import (
    IDS,
    MASK,
    POSITIONS,
    TYPES,
    check_inputs,
    export_graph,
    output_index,
    stated,
)
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.infer.providers import is_too_little_memory, open_session, reason_of

_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}
"""Of inputs, by onnxruntime's names."""


class OnnxEncoder:
    """An ONNX export that is ready to run."""

    def __init__(self, folder: Path, device: TorchDevice, *, scores: bool, context_length: int, threads: int) -> None:
        """Raises FailedPrecondition for a graph that is no encoder of this kind."""
        graph = export_graph(folder)
        opened = open_session(graph, device.kind, device.handle.index or 0, threads)
        self._session = opened.session
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_inputs(graph, [[each.name] for each in inputs])
        self._inputs = [(each.name, _TYPES.get(each.type, np.int64)) for each in inputs]
        index = output_index(graph, [([each.name], len(each.shape)) for each in outputs], scores=scores)
        self._output = outputs[index].name
        self._device = device
        self.pad_id = stated(folder, "pad_token_id")
        self.info: RunnerInfo = executor_info(
            device_kind=opened.device_kind(device.kind),
            device_name=device.name,
            memory_total_bytes=device.memory_bytes()[1],
            runtime=opened.runtime,
            weights_bytes=sum(path.stat().st_size for path in graph.parent.glob(f"{graph.name}*")),
            context_length=context_length,
            vocab_size=stated(folder, "vocab_size"),
        )

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:
        return pool(self._run(batch), batch.mask, pooling)

    def score(self, batch: TextBatch) -> Array:
        return np.asarray(self._run(batch).reshape(len(batch.ids)), np.float32)

    def memory_free_bytes(self) -> int:
        return self._device.memory_bytes()[0]

    def close(self) -> None:
        """Nothing to do: the process is about to end."""

    def _run(self, batch: TextBatch) -> Array:
        positions = np.broadcast_to(np.arange(batch.ids.shape[1]), batch.ids.shape)
        given = {IDS: batch.ids, MASK: batch.mask, TYPES: batch.types, POSITIONS: positions}
        try:
            found = self._session.run([self._output], {name: given[name].astype(kind) for name, kind in self._inputs})
        except Exception as error:  # onnxruntime's exceptions have no common base
            if is_too_little_memory(error):
                raise ResourceExhausted(
                    f"{self._device.name} has too little free memory for {batch.ids.size} tokens.",
                    reason="OUT_OF_MEMORY",
                ) from error
            raise Internal(f"onnxruntime could not run the model: {reason_of(error)}") from error
        vectors: Array = found[0]
        return vectors
