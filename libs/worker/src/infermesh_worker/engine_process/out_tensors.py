"""Writes the tensors of results where the front reads them, and waits while the memory for them is full."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.manifest.model_kind import TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.wire_tensors import WireTensor, allocate, check_fits, flatten, shared_bytes, write

PULSE_S = 1.0
"""How often a writer that waits says so."""


class OutTensors:
    """The arena of an engine process's results. Any thread may write; the front says what it has read.

    A request whose reader has stopped holds its share at most, so half of the arena stays free for others. It also
    holds the thread that waits to write more: until the reader goes on, the request's deadline passes, or the front
    gives the reader up (rpc/audio/speak.py: MOST_UNREAD_S), which cancels the request.
    """

    def __init__(self, arena: Arena, outputs: Sequence[TensorSpec] = (), *, parallel: int = 1) -> None:
        """`outputs` give the data types of arrays that hold bits of types that numpy does not have.

        `parallel`: how many requests write at a time.
        """
        self._arena = arena
        self._dtypes = {spec.name: int(DataType.Value(f"DATA_TYPE_{spec.dtype}")) for spec in outputs}
        self._changed = threading.Condition()
        self._closed = False
        self._share_bytes = arena.space.size_bytes // (2 * parallel)
        self._unread: dict[str, int] = {}
        """Bytes of a request's spans, by request id."""
        self._owners: dict[int, tuple[str, int]] = {}
        """Whose a span is, and its bytes."""

    def write(
        self, request_id: str, tensors: Mapping[str, Array], pulse: Callable[[], None] = lambda: None
    ) -> list[WireTensor]:
        """Copies tensors for the front; waits until there is room, and until the request's other tensors have been read
        if they would exceed its share together. Raises ResourceExhausted if there never will be room.

        `pulse` is called every PULSE_S seconds meanwhile; it may raise to end the wait.
        """
        flat = [flatten(name, array, self._dtypes.get(name)) for name, array in tensors.items()]
        sizes = shared_bytes(flat)
        check_fits(self._arena, sizes, "outputs")
        return write(self._arena, flat, self._take(request_id, sizes, pulse) if sizes else ())

    def release(self, spans: Sequence[int]) -> None:
        """Frees spans that the front has read."""
        with self._changed:
            for span in spans:
                self._arena.free(span)
                self._give_back(span)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the wait of every writer; the process is about to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, request_id: str, sizes: Sequence[int], pulse: Callable[[], None]) -> list[int]:
        """A span for each size, once they may be had; none if the process ends before."""
        due_s = time.monotonic() + PULSE_S
        with self._changed:
            while (spans := self._try(request_id, sizes)) is None:
                if self._closed:
                    return []
                self._changed.wait(max(0.0, due_s - time.monotonic()))
                if time.monotonic() >= due_s:
                    pulse()
                    due_s = time.monotonic() + PULSE_S
        return spans

    def _try(self, request_id: str, sizes: Sequence[int]) -> list[int] | None:
        unread = self._unread.get(request_id, 0)
        if unread and unread + sum(sizes) > self._share_bytes:
            return None
        spans = allocate(self._arena, sizes)
        if spans is not None:
            self._unread[request_id] = unread + sum(sizes)
            self._owners.update({span: (request_id, size) for span, size in zip(spans, sizes, strict=True)})
        return spans

    def _give_back(self, span: int) -> None:
        request_id, size = self._owners.pop(span)
        left = self._unread[request_id] - size
        if left:
            self._unread[request_id] = left
        else:
            del self._unread[request_id]
