"""Owns captured decode steps: which batch sizes are captured, and their replay. Knows no model and no attention.

A step of few sequences is a thousand short kernels, and launching them takes longer than running them; a captured
graph is launched as one. It replays the same launches with the same pointers, so it reads its inputs from buffers
that stay (static_step) and is as wide as its bucket: rows without a sequence are padding.
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
from infermesh_worker_xpu.steps.decode_buffers import DecodeBuffers, is_decodes
from infermesh_worker_xpu.steps.device_step import DeviceStep

_log = logging.getLogger(__name__)

Forward = Callable[[DeviceStep], Tensor]
"""Logits [rows, vocab] of a step."""


class Graph(Protocol):
    """One piece of work on the device that can be run again."""

    def capture(self, work: Callable[[], Tensor]) -> None:
        """Records the work. Raises what the work raises, and RuntimeError where it does what cannot be recorded."""
        ...

    def replay(self) -> Tensor:
        """Queues the work once more; returns its result, in the same memory each time."""
        ...


GraphMaker = Callable[[], Graph]
"""Makes graphs that share one pool of memory."""

GraphPool = Callable[[], GraphMaker]
"""Makes such a maker with a pool of its own: torch cannot go on in a pool whose graphs are gone."""


class DeviceGraph:
    """A CUDA or XPU graph of torch: torch.cuda.CUDAGraph, torch.xpu.XPUGraph (torch 2.11 and later)."""

    def __init__(self, device: torch.device, pool: object, stream: Any) -> None:
        """`pool` and `stream` are shared by all graphs of a runner."""
        self._module = torch.get_device_module(device)
        self._pool, self._stream = pool, stream
        self._graph = self._module.CUDAGraph() if device.type == "cuda" else self._module.XPUGraph()
        self._result: Tensor | None = None

    def capture(self, work: Callable[[], Tensor]) -> None:
        # the outer context puts the stream back where a failed capture leaves it set
        self._stream.wait_stream(self._module.current_stream())  # on which the inputs are being filled
        with self._module.stream(self._stream):
            work()  # compiles kernels and starts libraries, which no capture may do
            with _refusing_to_wait(self._module):
                work()
            self._stream.synchronize()
            with self._module.graph(self._graph, pool=self._pool, stream=self._stream):
                self._result = work()
        self._module.synchronize()

    def replay(self) -> Tensor:
        if self._result is None:
            raise RuntimeError("a graph is replayed that was not captured")
        self._graph.replay()
        return self._result


@contextmanager
def _refusing_to_wait(module: Any) -> Iterator[None]:
    """Work that waits for the device raises RuntimeError, as far as torch can tell (on CUDA).

    A capture would fail of it too, but leave torch's allocator in the middle of one.
    """
    if not hasattr(module, "set_sync_debug_mode"):
        yield
        return
    before = module.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that the mode is a prototype
        module.set_sync_debug_mode("error")
        try:
            yield
        finally:
            module.set_sync_debug_mode(before)


class DecodeGraphs:
    """Steps of decodes alone, captured at some batch sizes."""

    def __init__(self, inputs: DecodeBuffers, forward: Forward, make_graph: GraphMaker) -> None:
        self._inputs = inputs
        self._forward = forward
        self._make_graph = make_graph
        self._graphs: dict[int, Graph] = {}

    @property
    def sizes(self) -> list[int]:
        """The batch sizes that are captured, smallest first."""
        return sorted(self._graphs)

    def capture(self, sizes: Sequence[int]) -> None:
        """Captures these sizes, largest first; those that the device has no memory for are left out, with a log line.

        Raises RuntimeError where the model does what no graph can hold.
        """
        for size in sorted(sizes, reverse=True):
            self._inputs.fill(None, size)
            graph = self._make_graph()
            try:
                graph.capture(partial(self._run, size))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                _log.warning("no memory for a graph", extra={"sequences": size, "problem": str(error).splitlines()[0]})
                continue
            self._graphs[size] = graph

    def _run(self, size: int) -> Tensor:
        return self._forward(self._inputs.step(size))

    def bucket(self, batch: Batch) -> int | None:
        """The smallest captured size that holds the batch; None where no graph can run it."""
        if not self._graphs or not is_decodes(batch):
            return None
        count = len(batch.token_ids)
        return min((size for size in self._graphs if size >= count), default=None)

    def stage(self, batch: Batch, size: int) -> DeviceStep:
        """Queues the batch's copy to the device and returns what the graph will read: padded to `size` rows."""
        self._inputs.fill(batch, size)
        return self._inputs.step(size)

    def replay(self, size: int) -> Tensor:
        """Logits [size, vocab] of what was staged last, in the graph's memory: valid until the next replay of any."""
        return self._graphs[size].replay()


def bucket_sizes(max_sequences: int) -> list[int]:
    """Batch sizes that are worth a graph: 1, 2, 4, each eighth up to 256, each sixteenth beyond, and the largest."""
    sizes = {1, 2, 4, *range(8, 257, 8), *range(272, max_sequences + 1, 16), max_sequences}
    return sorted(size for size in sizes if size <= max_sequences)


def why_not_captured(device: TorchDevice, attention: str, options: TorchOptions) -> str:
    """Why decode steps are not captured; empty where they are."""
    if options.graphs == "off":
        return "INFERMESH_GRAPHS=off"
    if device.is_cpu:
        return "processors have no graphs"
    if attention != "triton":
        return f"{attention} attention waits for the device in each step"
    if not hasattr(torch.get_device_module(device.handle), "graph"):
        return f"torch {torch.__version__} has no graphs on {device.kind}"
    return ""


def graph_maker(device: TorchDevice) -> GraphMaker:
    """Makes graphs of an accelerator that share a pool of memory and a stream."""
    module = torch.get_device_module(device.handle)
    pool, stream = module.graph_pool_handle(), module.Stream(device.handle)
    return lambda: DeviceGraph(device.handle, pool, stream)
