"""What is known of a device: its kind, name, memory and runtime."""

from dataclasses import dataclass

from infermesh_engine.runners.device_kind import DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The device of a worker."""

    kind: DeviceKind
    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    runtime: str
    """Library and version that runs the models, as in RunnerInfo."""
