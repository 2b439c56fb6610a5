"""Holds the fleet's snapshots as columns, so that choosing among thousands takes a few array operations."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import overload

import numpy as np
from numpy.typing import NDArray

from infermesh_router.policy.load_columns import Floats, LoadColumns
from infermesh_router.policy.prefix.prefix_hash import hash_address
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot

Mask = NDArray[np.bool_]

DEVICE_BITS = {DeviceKind.CPU: 1, DeviceKind.XPU: 2, DeviceKind.CUDA: 4, DeviceKind.UNKNOWN: 8}
CPU_BITS, GPU_BITS, UNKNOWN_BITS = 1, 2 | 4, 8
_MODELS_KEPT = 256
"""Most models whose masks are cached; clients may name any number of models."""


class Table(Sequence[EndpointSnapshot]):
    """One snapshot per row. `update` replaces one; callers must not write to the columns."""

    def __init__(self, snapshots: Iterable[EndpointSnapshot] = ()) -> None:
        self._snapshots = list(snapshots)
        rows = len(self._snapshots)
        self.in_flight = np.zeros(rows)
        self._totals = LoadColumns("", rows)
        self._loads: dict[str, LoadColumns] = {}
        """By model; made when they are first asked for."""
        self.device_bits = np.zeros(rows, np.uint8)
        self.usable: Mask = np.zeros(rows, bool)
        """Connected, and not refused by its circuit breaker."""
        self.connected: Mask = np.zeros(rows, bool)
        self.address_hashes = np.array([hash_address(s.address) for s in self._snapshots], np.uint64)
        self.version = 0
        """Number of changes so far."""
        self.structure_version = 0
        """Number of changes of devices and models so far."""
        self._rows = {s.address: row for row, s in enumerate(self._snapshots)}
        self._kept: dict[Hashable, Mask] = {}
        self._models: frozenset[str] | None = None
        self._spread_values: Mapping[str, int] = {}
        self._spread_column: Floats = np.zeros(rows)
        self._serving: dict[str, Mask] = {}
        self._ready: dict[str, Mask] = {}
        for row, snapshot in enumerate(self._snapshots):
            self._write_loads(row, snapshot, snapshot)
            self._write_state(row, snapshot)

    def __len__(self) -> int:
        return len(self._snapshots)

    @overload
    def __getitem__(self, index: int) -> EndpointSnapshot: ...
    @overload
    def __getitem__(self, index: slice) -> list[EndpointSnapshot]: ...
    def __getitem__(self, index: int | slice) -> EndpointSnapshot | list[EndpointSnapshot]:
        return self._snapshots[index]

    def row(self, address: str) -> int | None:
        """The row of the endpoint at the address."""
        return self._rows.get(address)

    def at(self, address: str) -> EndpointSnapshot:
        """The snapshot of the endpoint at the address. Raises KeyError."""
        return self._snapshots[self._rows[address]]

    def spread(self, values: Mapping[str, int]) -> Floats:
        """The values, given by address, as a column: 0 for rows without one; unknown addresses are ignored.

        The column is cached for the next call with the same mapping, which must not change in between.
        """
        if self._spread_values is not values:
            column = np.zeros(len(self) + 1)
            unknown = repeat(len(self))
            column[list(map(self._rows.get, values, unknown))] = list(values.values())
            self._spread_values, self._spread_column = values, column[:-1]
        return self._spread_column

    def update(self, snapshot: EndpointSnapshot) -> None:
        """Replaces the snapshot with the same address. Raises KeyError if there is none."""
        row = self._rows[snapshot.address]
        before, self._snapshots[row] = self._snapshots[row], snapshot
        self._write_loads(row, before, snapshot)
        if _state(before) != _state(snapshot):
            self._write_state(row, snapshot)
        if snapshot.available is before.available and snapshot.models is before.models:  # of the same report
            return
        if before.models != snapshot.models or before.ready_models != snapshot.ready_models:
            self._write_models(row, snapshot)
            self._kept.clear()
            self._models = None
        if _structure(before) != _structure(snapshot):
            self.structure_version += 1

    def select(self, mask: Mask) -> list[EndpointSnapshot]:
        """The snapshots where the mask is true."""
        return [self._snapshots[row] for row in np.flatnonzero(mask)]

    @property
    def models(self) -> frozenset[str]:
        """Every model that some endpoint lists."""
        if self._models is None:
            self._models = frozenset().union(*(s.models for s in self._snapshots))
        return self._models

    def serving(self, model: str) -> Mask:
        """The rows that list the model; for an empty name, the rows that list any."""
        return self._masks(model)[0]

    def ready(self, model: str) -> Mask:
        """The rows that can answer with the model; for an empty name, with any."""
        return self._masks(model)[1]

    def on_device(self, bits: int) -> Mask:
        """The rows whose device is of one of those kinds."""
        mask: Mask = (self.device_bits & bits) != 0
        return mask

    def keep(self, key: Hashable, make: Callable[[], Mask]) -> Mask:
        """The mask that `make` gives, cached until a device, model, connection or breaker changes.

        It must depend on nothing else.
        """
        mask = self._kept.get(key)
        if mask is None:
            if len(self._kept) >= _MODELS_KEPT:
                self._kept.clear()
            mask = self._kept[key] = make()
        return mask

    def loads(self, model: str) -> LoadColumns:
        """The loads of the model on the endpoints that list it; for an empty name, the endpoints' totals."""
        if not model:
            return self._totals
        columns = self._loads.get(model)
        if columns is None:
            if len(self._loads) >= _MODELS_KEPT:
                self._loads.clear()
            columns = self._loads[model] = LoadColumns(model, len(self))
            for row in np.flatnonzero(self.serving(model)):
                columns.write(int(row), self._snapshots[row])
        return columns

    def _masks(self, model: str) -> tuple[Mask, Mask]:
        serving = self._serving.get(model)
        if serving is None:
            if len(self._serving) >= _MODELS_KEPT:
                self._serving.clear()
                self._ready.clear()
            serving = self._serving[model] = np.array([_has(s.models, model) for s in self._snapshots], bool)
            self._ready[model] = np.array([_has(s.ready_models, model) for s in self._snapshots], bool)
        return serving, self._ready[model]

    def _write_loads(self, row: int, before: EndpointSnapshot, after: EndpointSnapshot) -> None:
        self.version += 1
        self.in_flight[row] = after.in_flight
        self._totals.write(row, after)
        for model, columns in self._loads.items():
            if model in after.models:
                columns.write(row, after)
            elif model in before.models:
                columns.forget(row)

    def _write_state(self, row: int, s: EndpointSnapshot) -> None:
        self._kept.clear()
        self.device_bits[row] = DEVICE_BITS[s.device]
        self.connected[row] = s.connected
        self.usable[row] = s.connected and not s.breaker_open

    def _write_models(self, row: int, snapshot: EndpointSnapshot) -> None:
        for model, mask in self._serving.items():
            mask[row] = _has(snapshot.models, model)
        for model, mask in self._ready.items():
            mask[row] = _has(snapshot.ready_models, model)


def as_table(endpoints: Sequence[EndpointSnapshot]) -> Table:
    """The endpoints as a table; returned as they are if they are one already."""
    return endpoints if isinstance(endpoints, Table) else Table(endpoints)


def _has(models: frozenset[str], model: str) -> bool:
    return model in models if model else bool(models)


def _state(s: EndpointSnapshot) -> tuple[object, ...]:
    return s.device, s.connected, s.breaker_open


def _structure(s: EndpointSnapshot) -> tuple[object, ...]:
    """The parts of a snapshot that decide which device a model prefers."""
    return s.device, s.models, s.available, s.model_sizes, s.memory_total_bytes
