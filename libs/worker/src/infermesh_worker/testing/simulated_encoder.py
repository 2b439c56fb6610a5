"""A model of kind embed or rerank without a device, for tests: it counts tokens; it can wait, or die when told."""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.manifest.model_kind import ModelKind
from infermesh_runtime.manifest.text_encoder import Pooling
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, executor_info
from infermesh_worker.executors.text_batches import TextBatch
from infermesh_worker.executors.text_executor import built_text_model

DIMENSIONS = 2
"""Of a vector: how many tokens its text has, and the sum of their ids."""
DEADLY = "\a"
"""The process kills itself when it reads it; the simulated tokenizer's ids are bytes."""


class SimulatedEncoder:
    """Computes in numpy, and sleeps for as long as the options say."""

    pad_id = 0

    def __init__(self, *, device_kind: DeviceKind, memory_bytes: int, context_length: int, batch_s: float) -> None:
        """A batch takes `batch_s`."""
        self._batch_s = batch_s
        self._memory_bytes = memory_bytes
        self.info: RunnerInfo = executor_info(
            device_kind=device_kind,
            device_name="simulated",
            memory_total_bytes=memory_bytes,
            runtime="simulated",
            weights_bytes=1 << 20,
            memory_bytes=1 << 20,
            context_length=context_length,
        )

    def embed(self, batch: TextBatch, pooling: Pooling) -> Array:  # noqa: ARG002 - the same for all
        sums = self._sums(batch)
        return np.stack([batch.mask.sum(axis=1).astype(np.float32), sums], axis=1)

    def score(self, batch: TextBatch) -> Array:
        return self._sums(batch)

    def memory_free_bytes(self) -> int:
        return self._memory_bytes

    def close(self) -> None:
        self._memory_bytes = 0

    def _sums(self, batch: TextBatch) -> Array:
        if (batch.ids == ord(DEADLY)).any():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._batch_s)
        sums: Array = (batch.ids * batch.mask).sum(axis=1).astype(np.float32)
        return sums


def build(options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds it in the engine process. Options: fields of SimulatedEncoder, and "kind"."""
    chosen = dict(options)
    kind: ModelKind = chosen.pop("kind")
    return built_text_model(
        SimulatedEncoder(**chosen), kind=kind, name=kind, most_tokens=chosen["context_length"], activation="identity"
    )
