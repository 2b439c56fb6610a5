"""A model of kind infer without a device, for tests: y = 2 x; it can wait, fail or die when told.

It takes "x" (FP32 [?, 4]) and "s" (BYTES [?]), and gives "y" (twice x), "t" (s reversed) and "n" (INT32 [?]: how many
rows ran together).
"""

import os
import signal
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import ANY, BatchLimits, TensorSpec
from infermesh_worker.executors.executor import BuiltExecutor, Item, Outcome, executor_info
from infermesh_worker.executors.stacking import results, stack, stackable

INPUTS = (TensorSpec("x", "FP32", (ANY, 4)), TensorSpec("s", "BYTES", (ANY,)))
OUTPUTS = (TensorSpec("y", "FP32", (ANY, 4)), TensorSpec("t", "BYTES", (ANY,)), TensorSpec("n", "INT32", (ANY,)))
BAD, DEADLY, LIVELY = np.float32(-1.0), np.float32(-9.0), np.float32(-5.0)
"""As the first element of x: the item is refused; the process kills itself; the run says all the time that it lives."""


class SimulatedExecutor:
    """Computes in numpy, and sleeps for as long as the options say."""

    def __init__(
        self, *, device_kind: DeviceKind, memory_bytes: int, batch_s: float, row_s: float, parallel: int
    ) -> None:
        """A batch takes `batch_s` and `row_s` for each row."""
        self.parallel = parallel
        self._batch_s, self._row_s = batch_s, row_s
        self._memory_bytes = memory_bytes
        self.info: RunnerInfo = executor_info(
            device_kind=device_kind,
            device_name="simulated",
            memory_total_bytes=memory_bytes,
            runtime="simulated",
            weights_bytes=1 << 20,
            memory_bytes=1 << 20,
        )

    def group(self, item: Item) -> Hashable | None:
        return stackable(item)

    def size(self, item: Item) -> int:
        return int(item.tensors["x"].shape[0])

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        joined = stack(items)
        x, s = joined["x"], joined["s"]
        if (x[:, 0] == DEADLY).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if (x[:, 0] == BAD).any():
            raise InvalidArgument("tensor 'x' begins with -1, which this model refuses")
        takes_s = self._batch_s + self._row_s * len(x)
        if (x[:, 0] == LIVELY).any():
            end_s = time.monotonic() + takes_s
            while time.monotonic() < end_s:
                time.sleep(min(0.05, takes_s))
                items[0].alive()
        else:
            time.sleep(takes_s)
        reversed_ = np.array([element[::-1] for element in s.ravel()] or [b""], object)[: s.size].reshape(s.shape)
        outputs = {"y": 2 * x, "t": reversed_, "n": np.full(len(x), len(x), np.int32)}
        return results(outputs, items)

    def memory_free_bytes(self) -> int:
        return self._memory_bytes

    def close(self) -> None:
        self._memory_bytes = 0


def build(options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds it in the engine process. Options: fields of SimulatedExecutor, and "limits" (fields of BatchLimits)."""
    chosen = dict(options)
    limits = BatchLimits(**chosen.pop("limits"))
    return BuiltExecutor(
        executor=SimulatedExecutor(**chosen),
        kind="infer",
        name="tensors",
        inputs=INPUTS,
        outputs=OUTPUTS,
        limits=limits,
    )
