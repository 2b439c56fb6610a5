"""The device of a worker: its facts, and how much of its memory models may take."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.device.machine_part import MachinePart

Probe = Callable[[], Awaitable[DeviceFacts]]
Available = Callable[[DeviceKind], int | None]

_MUCH_BYTES = 64 << 20


class WorkerDevice:
    """Learns the device's facts from a probe or a loaded runner. Used from one event loop."""

    def __init__(
        self,
        probe: Probe,
        *,
        memory_bytes: int = 0,
        margin: float = 0.0,
        available: Available = lambda _kind: None,
        part: MachinePart | None = None,
    ) -> None:
        """`memory_bytes`: memory that models may take; 0: all of the device's except the share `margin`, in [0, 1).

        `available` measures the memory of such a device that is free now; None: only a loaded runner can tell.
        `part`: the part of the machine that is this device; None: all of it.
        """
        self._probe = probe
        self._memory_bytes = memory_bytes
        self._margin = margin
        self._available = available
        self._part = part
        self.available_bytes: int | None = None
        """Free memory of the device when it was last measured, whoever takes the rest; None: not known."""
        self._lock = asyncio.Lock()
        self._info: RunnerInfo | None = None
        self.facts: DeviceFacts | None = None
        """None until it is known."""

    @property
    def budget_bytes(self) -> int:
        """Memory for all models together; 0 until the device is known."""
        if self.facts is None:
            return 0
        return self._memory_bytes or int(self._total_bytes(self.facts) * (1 - self._margin))

    def measure(self) -> bool:
        """Measures the free memory; returns whether it has changed by much."""
        before = self.available_bytes
        self.available_bytes = self._available(self.facts.kind) if self.facts is not None else None
        return abs((self.available_bytes or 0) - (before or 0)) > _MUCH_BYTES

    def learn(self, info: RunnerInfo) -> None:
        """Takes the facts that a loaded runner reports."""
        if info is self._info:
            return
        self._info = info
        free_bytes = self.facts.memory_free_bytes if self.facts else info.memory_total_bytes
        self.facts = DeviceFacts(
            kind=info.device_kind,
            name=info.device_name,
            memory_total_bytes=info.memory_total_bytes,
            memory_free_bytes=free_bytes,
            runtime=info.runtime,
        )

    async def known(self) -> DeviceFacts:
        """The facts; probes the device when they are not known yet. Raises FailedPrecondition when there is none."""
        async with self._lock:
            if self.facts is None:
                facts = await self._probe()
                self.facts = self.facts or facts
            return self.facts

    def reported(self, held_bytes: int, free_now_bytes: int) -> DeviceFacts | None:
        """The facts for a router. Total memory is what all models may take; free memory is what further models may.

        `held_bytes`: memory that the models hold. `free_now_bytes`: free memory that the device last reported; 0: none.
        """
        if self.facts is None:
            return None
        device_bytes = self._total_bytes(self.facts)
        total_bytes = min(device_bytes, self._memory_bytes or device_bytes)
        unclaimed_bytes = max(0, min(self.budget_bytes, total_bytes) - held_bytes)
        free_bytes = min(unclaimed_bytes, free_now_bytes or self.facts.memory_free_bytes)
        name = self.facts.name if self._part is None else f"{self.facts.name} ({self._part.words})"
        return replace(self.facts, name=name, memory_total_bytes=total_bytes, memory_free_bytes=free_bytes)

    def _total_bytes(self, facts: DeviceFacts) -> int:
        total_bytes = facts.memory_total_bytes
        return total_bytes if self._part is None else min(total_bytes, self._part.memory_bytes)
