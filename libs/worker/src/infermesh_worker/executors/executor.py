"""The interface to a model that does not generate text: what it is asked and answers, and what it says of itself."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.manifest.model_kind import ALONE, BatchLimits, ModelKind, TensorSpec
from infermesh_runtime.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a model answers to one item: plain values and named arrays."""

    params: Mapping[str, Any] = field(default_factory=dict)
    """Values that msgpack can hold: numbers, strings, bytes, lists and mappings of them."""
    tensors: Mapping[str, Array] = field(default_factory=dict)
    """Copied before the executor's next run, so they may be views of its memory."""


def _emit_nothing(_: Result) -> None:
    """Drops a partial result: nobody asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """What one request asks of a model: plain values and named arrays."""

    params: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Array] = field(default_factory=dict)
    """Not to be written; valid while the item runs. Most are views of memory that is shared with the front.

    BYTES is an object array of `bytes`. BF16 and FP8 have ml_dtypes' types if that package is installed, otherwise they
    are uint16 and uint8 that hold the bits.
    """
    emit: Callable[[Result], None] = _emit_nothing
    """Sends a part of the answer before the run ends. What `run` returns ends the answer."""
    cancelled: Callable[[], bool] = lambda: False
    """Whether nobody waits for the result any more; long runs ask now and then, and end early."""
    alive: Callable[[], None] = lambda: None
    """Says that the run goes on. One that neither says so nor emits between two pings counts as hung."""


Outcome = Result | InfermeshError
"""The answer to one item, or the error that its request ends with."""


class Executor(Protocol):
    """A loaded model. `group` and `size` are called in the loop's thread, `run` in `parallel` threads at a time."""

    @property
    def info(self) -> RunnerInfo:
        """Device, memory and runtime; see `executor_info`."""
        ...

    @property
    def parallel(self) -> int:
        """How many batches may run at the same time, at least 1."""
        ...

    def group(self, item: Item) -> Hashable | None:
        """Items whose groups are equal may run together; None: it runs alone. Must be quick."""
        ...

    def size(self, item: Item) -> int:
        """How much of a batch it takes, at least 1: rows, or tokens. Counts against BatchLimits.max_size."""
        ...

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """The answer to each item, in order. Items that cannot be answered get an error of their own.

        Raises InfermeshError if all fail for the same reason. If it raises for several items, each is run again by
        itself, so that one bad item does not fail the others. Any other exception counts as a bug and ends the items
        with INTERNAL; MemoryError ends them with RESOURCE_EXHAUSTED.
        """
        ...

    def memory_free_bytes(self) -> int:
        """Free memory of the device now."""
        ...

    def close(self) -> None:
        """Frees the device."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltExecutor:
    """What a worker's build function returns in the engine process for a model that does not generate text."""

    executor: Executor
    kind: ModelKind
    name: str = ""
    """The model's name in requests."""
    inputs: tuple[TensorSpec, ...] = ()
    """The tensors that it takes. Empty for kinds whose requests are not tensors."""
    outputs: tuple[TensorSpec, ...] = ()
    limits: BatchLimits = ALONE


def executor_info(
    *,
    device_kind: DeviceKind,
    device_name: str,
    memory_total_bytes: int,
    runtime: str,
    weights_bytes: int,
    memory_bytes: int = 0,
    context_length: int = 0,
    vocab_size: int = 0,
) -> RunnerInfo:
    """A RunnerInfo without a KV cache. `memory_bytes`: all that the model holds; 0: estimated from the process.

    `context_length` and `vocab_size` are for kinds that read tokens.
    """
    return RunnerInfo(
        device_kind=device_kind,
        device_name=device_name,
        memory_total_bytes=memory_total_bytes,
        runtime=runtime,
        vocab_size=vocab_size,
        context_length=context_length,
        block_size=1,
        num_blocks=context_length,
        weights_bytes=weights_bytes,
        memory_bytes=memory_bytes,
    )
