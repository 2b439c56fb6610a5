"""Says what the simulated device is, in a process that imports nothing of the front."""

from collections.abc import Mapping
from typing import Any

from infermesh_worker.device.device_facts import DeviceFacts


def probe(options: Mapping[str, Any]) -> DeviceFacts:
    """The facts of the simulated device; runs in a process of its own. Takes the options of `build`."""
    runner = options["runner"]
    return DeviceFacts(
        kind=runner["device_kind"],
        name="simulated",
        memory_total_bytes=runner["memory_total_bytes"],
        memory_free_bytes=runner["memory_total_bytes"],
        runtime="simulated",
    )
