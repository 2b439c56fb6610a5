"""Tells which kind of device torch will find, without loading torch: by its build and by files of drivers."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from infermesh_engine.runners.device_kind import DeviceKind

_BUILDS: Sequence[tuple[str, DeviceKind, Sequence[str]]] = (
    ("cpu", "cpu", ()),
    ("xpu", "xpu", ("dev/dri/renderD*", "dev/dxg")),
    ("rocm", "cuda", ("dev/kfd",)),
    ("cu", "cuda", ("dev/nvidia[0-9]*", "dev/nvmap", "dev/dxg")),
)
"""The begin of a build's name, its kind of device, and files of which there is one where there is such a device."""
_INTEL = "0x8086"


def torch_build() -> str | None:
    """What the installed torch is built for, as "cpu" or "cu130"; None: it is not installed."""
    try:
        _, plus, build = version("torch").partition("+")
    except PackageNotFoundError:
        return None
    return build if plus else "cu"  # pip's own index


def expected_kind(build: str | None, root: Path = Path("/")) -> DeviceKind | None:
    """The kind that `auto` will choose; None: it cannot be told. `root`: where the machine's files are."""
    found = next((each for each in _BUILDS if build is not None and build.startswith(each[0])), None)
    if found is None:
        return None
    _, kind, patterns = found
    if not any(any(root.glob(pattern)) for pattern in patterns):
        return "cpu"
    return kind if kind != "xpu" or _has_intel_graphics(root) else None


def chosen_kind(kind: str) -> str:
    """What a kind of device in the settings comes to: `auto` as far as it can be told, else the CPU."""
    return kind if kind != "auto" else expected_kind(torch_build()) or "cpu"


def _has_intel_graphics(root: Path) -> bool:
    vendors = root.glob("sys/class/drm/renderD*/device/vendor")
    return any(path.read_text(encoding="ascii").strip() == _INTEL for path in vendors)
