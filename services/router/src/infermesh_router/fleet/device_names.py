"""Names endpoints by their devices: "cpu" where there is one of its kind, else "cpu:0" and "cpu:1", by address."""

from collections import Counter
from collections.abc import Sequence

from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.policy.snapshot import DeviceKind

_KINDS = frozenset({DeviceKind.CPU, DeviceKind.XPU, DeviceKind.CUDA})
_MOST_KNOWN = 4096
"""Most addresses whose device is remembered; then all are forgotten, and most tell theirs again at once."""
_MOST_DIGITS = 9
"""Of an endpoint's number; Python reads no number of thousands of digits."""


def name_devices(kinds: Sequence[str]) -> list[str]:
    """The names of endpoints of these kinds, which are in the order of their addresses."""
    alike, met = Counter(kinds), Counter[str]()
    names = []
    for kind in kinds:
        names.append(f"{kind}:{met[kind]}" if alike[kind] > 1 else kind)
        met[kind] += 1
    return names


class KnownDevices:
    """Remembers the device of each address: an endpoint that has just come back has not reported its own yet.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}

    def note(self, address: str, kind: str) -> str:
        """The kind of device that the endpoint at the address has; the last one that it told, if it is unknown now."""
        if kind == DeviceKind.UNKNOWN:
            return self._kinds.get(address, kind)
        if len(self._kinds) >= _MOST_KNOWN:
            self._kinds.clear()
        self._kinds[address] = kind
        return kind


def address_of(device: str, fleet: Fleet, known: KnownDevices) -> str:
    """The address of the endpoint that a request names as its device, as in "cpu:1"; anything else as it is.

    `known` must be what endpoints are shown by, so that a name means what is shown.
    """
    kind, colon, number = device.partition(":")
    named = kind in _KINDS and number.isdecimal() and len(number) <= _MOST_DIGITS
    if not colon or not named or fleet.snapshots.row(device) is not None:
        return device
    kinds = [(each.address, known.note(each.address, each.snapshot.device)) for each in fleet.endpoints]
    alike = [address for address, its_kind in kinds if its_kind == kind]
    return alike[int(number)] if int(number) < len(alike) else device
