"""Captures steps of some sizes as CUDA or XPU graphs, and replays them.

A step is about a thousand short kernels, and for few tokens launching them takes longer than running them. A graph
launches them all at once. It repeats the same launches with the same pointers, so its inputs lie in fixed buffers
(decode_buffers, mixed_buffers), and it always has its captured number of tokens: some of them are padding.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.memory_errors import is_out_of_memory
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.steps.device_step import DeviceStep

_log = logging.getLogger(__name__)

Forward = Callable[[DeviceStep], Tensor]
"""Logits [rows, vocab] of a step."""


class Graph(Protocol):
    """A recording of work on the device that can be replayed."""

    def capture(self, work: Callable[[], Tensor]) -> None:
        """Records the work. Raises what the work raises, and RuntimeError if it cannot be recorded."""
        ...

    def replay(self) -> Tensor:
        """Queues the recorded work. Returns its result, which lies in the same memory each time."""
        ...


GraphMaker = Callable[[], Graph]
"""Makes graphs that share one memory pool."""

GraphPool = Callable[[], GraphMaker]
"""Makes a GraphMaker with a new memory pool: torch cannot reuse a pool after its graphs are gone."""


class DeviceGraph:
    """torch.cuda.CUDAGraph or torch.xpu.XPUGraph (torch 2.11 and later)."""

    def __init__(self, device: torch.device, pool: object, stream: Any) -> None:
        """All graphs of a runner share `pool` and `stream`."""
        self._module = torch.get_device_module(device)
        self._pool, self._stream = pool, stream
        self._graph = self._module.CUDAGraph() if device.type == "cuda" else self._module.XPUGraph()
        self._result: Tensor | None = None

    def capture(self, work: Callable[[], Tensor]) -> None:
        # a failed capture leaves its stream set as the current one; the outer context restores it
        self._stream.wait_stream(self._module.current_stream())  # the inputs are still being filled there
        with self._module.stream(self._stream):
            work()  # compiles kernels and initialises libraries, which is forbidden during a capture
            with _refusing_to_wait(self._module):
                work()
            self._stream.synchronize()
            with self._module.graph(self._graph, pool=self._pool, stream=self._stream):
                self._result = work()
        self._module.synchronize()

    def replay(self) -> Tensor:
        if self._result is None:
            raise RuntimeError("Capture a graph before you replay it.")
        self._graph.replay()
        return self._result


@contextmanager
def _refusing_to_wait(module: Any) -> Iterator[None]:
    """Makes work that waits for the device raise RuntimeError, where torch can detect it (on CUDA).

    Such work makes a capture fail too, but then torch's allocator stays in capture mode.
    """
    if not hasattr(module, "set_sync_debug_mode"):
        yield
        return
    before = module.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
        module.set_sync_debug_mode("error")
        try:
            yield
        finally:
            module.set_sync_debug_mode(before)


class StepBuffers(Protocol):
    """Fixed memory for the inputs of one kind of step."""

    def size_of(self, batch: Batch) -> int | None:
        """The least size of a step that holds the batch; None if no step of this kind does."""
        ...

    def step(self, size: int) -> DeviceStep:
        """The step that the device reads at this size."""
        ...

    def fill(self, batch: Batch | None, size: int) -> None:
        """Queues the batch's copy to the device, padded to `size`; None copies padding only."""
        ...


class StepGraphs:
    """Steps of one kind, captured at some sizes."""

    def __init__(self, inputs: StepBuffers, forward: Forward, make_graph: GraphMaker) -> None:
        self._inputs = inputs
        self._forward = forward
        self._make_graph = make_graph
        self._graphs: dict[int, Graph] = {}

    @property
    def sizes(self) -> list[int]:
        """The captured sizes, smallest first."""
        return sorted(self._graphs)

    def capture(self, sizes: Sequence[int]) -> None:
        """Captures these sizes, largest first. Skips those that the device has no memory for, and logs each.

        Raises RuntimeError if the model does something that cannot be captured.
        """
        for size in sorted(sizes, reverse=True):
            self._inputs.fill(None, size)
            graph = self._make_graph()
            try:
                graph.capture(partial(self._run, size))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                _log.warning(
                    "out of memory; this graph is skipped",
                    extra={"tokens": size, "problem": str(error).splitlines()[0]},
                )
                continue
            self._graphs[size] = graph

    def _run(self, size: int) -> Tensor:
        return self._forward(self._inputs.step(size))

    def bucket(self, batch: Batch) -> int | None:
        """The smallest captured size that the batch fits in; None if no graph can run it."""
        least = self._inputs.size_of(batch)
        if least is None:
            return None
        return min((size for size in self._graphs if size >= least), default=None)

    def stage(self, batch: Batch, size: int) -> DeviceStep:
        """Queues the batch's copy to the device. Returns the graph's inputs, padded to `size` rows."""
        self._inputs.fill(batch, size)
        return self._inputs.step(size)

    def replay(self, size: int) -> Tensor:
        """Logits [rows, vocab] of the last staged batch, in the graph's memory: valid until any graph is replayed."""
        return self._graphs[size].replay()


def why_not_captured(device: TorchDevice, attention: str, options: TorchOptions) -> str:
    """The reason not to capture steps, or "" to capture them."""
    if options.graphs == "off":
        return "INFERMESH_GRAPHS=off"
    if device.is_cpu:
        return "the CPU has no graphs"
    if attention != "triton":
        return f"{attention} attention waits for the device in every step"
    if not hasattr(torch.get_device_module(device.handle), "graph"):
        return f"torch {torch.__version__} has no graphs on {device.kind}"
    return ""


def graph_maker(device: TorchDevice) -> GraphMaker:
    """Makes graphs on an accelerator that share a memory pool and a stream."""
    module = torch.get_device_module(device.handle)
    pool, stream = module.graph_pool_handle(), module.Stream(device.handle)
    return lambda: DeviceGraph(device.handle, pool, stream)
