"""Says what this machine's processor and memory are, in a short-lived process, so this module imports little."""

from collections.abc import Mapping
from typing import Any

from infermesh_runtime import machine
from infermesh_worker.device.device_facts import DeviceFacts


def probe(options: Mapping[str, Any]) -> DeviceFacts:  # noqa: ARG001 - there is only one device
    """The facts of this machine."""
    return DeviceFacts(
        kind="cpu",
        name=machine.processor_name(),
        memory_total_bytes=machine.memory_total_bytes(),
        memory_free_bytes=machine.memory_available_bytes(),
        runtime="openvino",
    )
