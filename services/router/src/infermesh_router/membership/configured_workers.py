"""Keeps the registry up to date with the workers that the settings and the workers file name."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from infermesh_router.membership.registry import AddressSource, Registry
from infermesh_router.membership.resolver import Resolve, Resolver
from infermesh_router.membership.target import Target
from infermesh_router.membership.worker_file import WorkerFile
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor


class ConfiguredWorkers:
    """Follows DNS names and the file between `start` and `close`. Workers that register come in elsewhere."""

    def __init__(
        self,
        registry: Registry,
        *,
        targets: Sequence[Target],
        workers_file: Path | None,
        resolve: Resolve,
        resolve_interval_s: float,
        tasks: TaskSupervisor | None = None,
    ) -> None:
        """`targets` are the workers in the settings; DNS names are resolved again every `resolve_interval_s`."""
        self._registry = registry
        make_resolver = partial(Resolver, interval_s=resolve_interval_s, resolve=resolve)
        self._resolvers = [make_resolver(targets, self._replace_named)]
        self._file: WorkerFile | None = None
        if workers_file is not None:
            of_file = make_resolver((), self._replace_filed)
            self._resolvers.append(of_file)
            self._file = WorkerFile(workers_file, of_file.set_targets)
        self._tasks = tasks or TaskSupervisor()
        self._following: list[BackgroundTask] = []

    async def start(self) -> None:
        """Starts following. Raises FailedPrecondition if the file cannot be read or has a bad line."""
        if self._file is not None:
            await self._file.load()
            self._following.append(self._tasks.start("workers file", self._file.run))
        for about, resolver in zip(("settings", "workers file"), self._resolvers, strict=False):
            self._following.append(self._tasks.start("resolver", resolver.run, about=f"({about})"))

    async def close(self) -> None:
        """Stops following."""
        for task in self._following:
            task.stop()
        for task in self._following:
            await task.wait()

    def _replace_named(self, fixed: frozenset[str], resolved: frozenset[str]) -> None:
        self._registry.replace(AddressSource.STATIC, fixed)
        self._registry.replace(AddressSource.DNS, resolved)

    def _replace_filed(self, fixed: frozenset[str], resolved: frozenset[str]) -> None:
        self._registry.replace(AddressSource.FILE, fixed | resolved)
