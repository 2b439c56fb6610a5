"""Rank 0 of a model on several devices: the engine's runner, which makes all ranks compute each batch."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import Batch, Logits, RunnerInfo
from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.device.machine_part import MachinePart
from infermesh_worker_xpu import device as devices
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.options import TorchOptions
from infermesh_worker_xpu.ranks.crew import Crew, RankLostError
from infermesh_worker_xpu.ranks.member import load_member
from infermesh_worker_xpu.ranks.orders import Membership, Order, Release, Run
from infermesh_worker_xpu.ranks.parts import find_parts, name_devices
from infermesh_worker_xpu.ranks.store import open_store, store_path
from infermesh_worker_xpu.sampling.device_sampler import TorchLaunch
from infermesh_worker_xpu.sharding.group import leave_group, prepare_environment

T = TypeVar("T")


class RanksRunner:
    """A model on several ranks, of which this process is the first. Used from one thread, as every runner.

    Any error of a batch ends the ranks: they would not be at the same point any more.
    """

    prepare_image = None
    """A model on several ranks takes no images."""

    def __init__(self, runner: TorchRunner, crew: Crew, info: RunnerInfo) -> None:
        self._runner = runner
        self._crew = crew
        self.info = info

    @property
    def pids(self) -> list[int]:
        """Process ids of the other ranks."""
        return self._crew.pids

    def run(self, batch: Batch) -> Logits:
        return self._together(Run(batch), lambda: self._runner.run(batch))

    def launch(self, batch: Batch) -> TorchLaunch:
        return self._together(Run(batch), lambda: self._runner.launch(batch))

    def release_blocks(self, blocks: range) -> None:
        self._together(Release(blocks), lambda: self._runner.release_blocks(blocks))

    def memory_free_bytes(self) -> int:
        """Of all devices, taken to be as full as the first."""
        free = self._runner.memory_free_bytes()
        return free if self.info.device_kind == "cpu" else free * (1 + len(self._crew.pids))

    def close(self) -> None:
        self._crew.close()
        leave_group()
        self._runner.close()

    def _together(self, order: Order, work: Callable[[], T]) -> T:
        try:
            self._crew.tell(order)
            return work()
        except Exception as error:  # of torch, of a pipe: another rank's end has many faces
            cause = self._crew.cause(error)
            if isinstance(cause, ResourceExhausted):  # the engine would go on with a smaller batch
                raise RankLostError(f"a rank cannot go on: {cause.message}") from error
            raise cause from error


def load_ranks(folder: Path, options: TorchOptions, *, binds: bool = True) -> RanksRunner:
    """Loads a model on the devices that the options name, in a process each, of which this one is the first.

    `binds`: whether ranks on processors are bound to their parts of the machine. Raises FailedPrecondition if the
    options do not work, and RankLostError.
    """
    indices = options.device_indices
    kind = devices.select(options.device, indices[0]).kind
    parts = find_parts(kind, indices) if binds else [None] * len(indices)
    prepare_environment()
    store = open_store()
    first, *others = _memberships(folder, options, kind, parts, store_path(store))
    crew = Crew.start(others, store)
    try:
        runner, info = load_member(first)
    except Exception as error:
        cause = crew.cause(error)
        crew.close()
        leave_group()
        raise cause from error
    return RanksRunner(runner, crew, replace(info, device_name=name_devices(kind, indices, parts)))


def _memberships(
    folder: Path, options: TorchOptions, kind: DeviceKind, parts: Sequence[MachinePart | None], store: Path
) -> list[Membership]:
    size = len(options.device_indices)
    threads = max(1, options.threads // size) if options.threads else 0
    level = logging.getLevelName(logging.getLogger().level)
    return [
        Membership(
            rank=rank,
            size=size,
            kind=kind,
            store=store,
            folder=folder,
            options=replace(options, device=kind, device_index=index, device_indices=(), threads=threads),
            part=parts[rank],
            log_level=level,
        )
        for rank, index in enumerate(options.device_indices)
    ]
