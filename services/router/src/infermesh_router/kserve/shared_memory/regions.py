"""The regions of shared memory that clients registered: each client sees its own, and those that nobody uses end."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from infermesh_router.kserve.shared_memory.shm_file import ShmFile, open_shm
from infermesh_router.kserve.tensors.values import Window
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted

_MAX_REGIONS = 1024
_LARGE_BYTES = 1 << 20
"""Copying more than this does not happen on the event loop."""
_MAX_SWEEP_S = 60.0


@dataclass(slots=True)
class Region:
    """One region."""

    name: str
    key: str
    offset: int
    size_bytes: int
    file: ShmFile
    used_s: float
    """When it was last used."""


class Regions:
    """The regions of all clients, by the client's name and the region's. Its methods raise InfermeshError."""

    def __init__(
        self,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
        open_file: Callable[[str], ShmFile] = open_shm,
    ) -> None:
        """A region that was not used for `lease_s` ends."""
        self._lease_s = lease_s
        self._clock = clock
        self._open = open_file
        self._regions: dict[tuple[str, str], Region] = {}

    def register(self, client: str, name: str, key: str, offset: int, size_bytes: int) -> None:
        """Registers a region. Raises FailedPrecondition if there is one of this name."""
        self.sweep()
        if not name:
            raise InvalidArgument("A region needs a name.", fields={"name": "is required"})
        if (client, name) in self._regions:
            raise FailedPrecondition(f"The shared memory region '{name}' is registered already; unregister it first.")
        if len(self._regions) >= _MAX_REGIONS:
            raise ResourceExhausted(f"{_MAX_REGIONS} regions of shared memory are registered, the most that may be.")
        file = self._open(key)
        if size_bytes < 1 or offset < 0 or offset + size_bytes > file.size_bytes():
            problem = f"must lie within the object '{key}', which has {file.size_bytes()} bytes"
            raise InvalidArgument(
                f"The region '{name}' of {size_bytes} bytes at {offset} {problem}.",
                reason="BAD_SHARED_MEMORY",
                fields={"byte_size": problem},
            )
        self._regions[client, name] = Region(name, key, offset, size_bytes, file, self._clock())

    def unregister(self, client: str, name: str) -> None:
        """Ends a region, or all of the client's if the name is empty. That there is none is no error, as in Triton."""
        for owner, each in list(self._regions):
            if owner == client and name in ("", each):
                del self._regions[owner, each]

    def list_regions(self, client: str, name: str = "") -> Sequence[Region]:
        """The client's regions, or the one of this name. Raises NotFound."""
        self.sweep()
        if name:
            return [self._find(client, name)]
        return [region for (owner, _), region in self._regions.items() if owner == client]

    async def read(self, client: str, window: Window) -> bytes:
        """The bytes in a window."""
        region = self._find_window(client, window)
        read = partial(region.file.read, region.offset + window.offset, window.size_bytes)
        return await asyncio.to_thread(read) if window.size_bytes > _LARGE_BYTES else read()

    async def write(self, client: str, window: Window, data: bytes | memoryview, output: str) -> Window:
        """Writes an output into a window; returns the part of it that was written."""
        region = self._find_window(client, window)
        if len(data) > window.size_bytes:
            problem = f"has {len(data)} bytes, more than the {window.size_bytes} of its shared memory"
            raise InvalidArgument(
                f"The output '{output}' {problem}.", reason="BAD_SHARED_MEMORY", fields={output: problem}
            )
        write = partial(region.file.write, region.offset + window.offset, data)
        await (asyncio.to_thread(write) if len(data) > _LARGE_BYTES else _now(write))
        return Window(window.region, window.offset, len(data))

    def check(self, client: str, window: Window) -> None:
        """Raises InvalidArgument or NotFound if a window does not lie within a region."""
        self._find_window(client, window)

    def sweep(self) -> None:
        """Ends the regions that were not used for long."""
        before_s = self._clock() - self._lease_s
        for name, region in list(self._regions.items()):
            if region.used_s < before_s:
                del self._regions[name]

    async def keep_sweeping(self) -> None:
        """Sweeps for ever."""
        while True:
            await asyncio.sleep(min(self._lease_s, _MAX_SWEEP_S))
            self.sweep()

    def _find(self, client: str, name: str) -> Region:
        region = self._regions.get((client, name))
        if region is None:
            raise NotFound(
                f"There is no shared memory region '{name}'; register it first.", fields={"shared_memory_region": name}
            )
        region.used_s = self._clock()
        return region

    def _find_window(self, client: str, window: Window) -> Region:
        region = self._find(client, window.region)
        if window.offset + window.size_bytes > region.size_bytes:
            problem = f"has {region.size_bytes} bytes; {window.size_bytes} at {window.offset} are beyond its end"
            raise InvalidArgument(
                f"The shared memory region '{window.region}' {problem}.",
                reason="BAD_SHARED_MEMORY",
                fields={"shared_memory_byte_size": problem},
            )
        return region


async def _now(call: Callable[[], None]) -> None:
    call()
