"""One rank's part of a model: joins the other ranks, loads the part, and adds up what all of them hold."""

from dataclasses import replace

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_worker.device.binding import bind
from infermesh_worker.engine_process.process_memory import memory_bytes
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.load_runner import load_runner
from infermesh_worker_xpu.ranks.orders import Membership
from infermesh_worker_xpu.sharding.group import Group, join_group


def load_member(membership: Membership) -> tuple[TorchRunner, RunnerInfo]:
    """The rank's runner, and the facts of all ranks together, but for the devices' name.

    Raises FailedPrecondition if the options do not work, and RuntimeError if another rank fails.
    """
    if membership.part is not None:
        bind(membership.part)
    group = join_group(membership.kind, membership.store, membership.rank, membership.size)
    runner = load_runner(membership.folder, membership.options, group=group)
    return runner, _together(runner.info, group)


def _together(info: RunnerInfo, group: Group) -> RunnerInfo:
    held = group.total(memory_bytes(info))
    weights = group.total(info.weights_bytes)
    kv_cache = group.total(info.kv_cache_bytes)
    device = info.memory_total_bytes if info.device_kind == "cpu" else group.total(info.memory_total_bytes)
    return replace(
        info,
        memory_bytes=held,
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        memory_total_bytes=device,
        runtime=f"{info.runtime.removesuffix(')')}, {group.size} ranks)",
    )
