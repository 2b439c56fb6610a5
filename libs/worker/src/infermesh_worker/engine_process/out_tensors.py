"""Writes the tensors of results where the front reads them, and waits while the memory for them is full."""

import threading
from collections.abc import Mapping, Sequence

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.manifest.model_kind import TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.wire_tensors import WireTensor, allocate, check_fits, flatten, shared_bytes, write


class OutTensors:
    """The arena of an engine process's results. Any thread may write; the front says what it has read."""

    def __init__(self, arena: Arena, outputs: Sequence[TensorSpec] = ()) -> None:
        """`outputs` give the data types of arrays that hold bits of types that numpy does not have."""
        self._arena = arena
        self._dtypes = {spec.name: int(DataType.Value(f"DATA_TYPE_{spec.dtype}")) for spec in outputs}
        self._changed = threading.Condition()
        self._closed = False

    def write(self, tensors: Mapping[str, Array]) -> list[WireTensor]:
        """Copies tensors for the front; waits until there is room. Raises ResourceExhausted if there never will be."""
        flat = [flatten(name, array, self._dtypes.get(name)) for name, array in tensors.items()]
        sizes = shared_bytes(flat)
        check_fits(self._arena, sizes, "outputs")
        with self._changed:
            while (spans := allocate(self._arena, sizes)) is None and not self._closed:
                self._changed.wait()
        return write(self._arena, flat, spans or ())

    def release(self, spans: Sequence[int]) -> None:
        """Frees spans that the front has read."""
        with self._changed:
            for span in spans:
                self._arena.free(span)
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the wait of every writer; the process is about to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
