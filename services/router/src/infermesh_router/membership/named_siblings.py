"""Finds the other routers of the mesh behind DNS names that stand for all of them, this one included."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

import grpc

from infermesh_router.membership.resolver import Resolve, Resolver
from infermesh_router.membership.target import Target
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor

RETRY_S = 1.0
"""Pause between two attempts to reach an address that a name has."""
_log = logging.getLogger(__name__)


class NamedSiblings:
    """Tells `siblings` who they are. Each router at an address of a name says its instance, so that one knows itself.

    A router counts from its first answer until the name has its address no longer. When one goes, the names are
    resolved at once, and otherwise every `resolve_interval_s`.
    """

    def __init__(
        self,
        siblings: Siblings,
        *,
        targets: Sequence[Target],
        resolve: Resolve,
        resolve_interval_s: float,
        tasks: TaskSupervisor,
    ) -> None:
        self._siblings = siblings
        self._resolver = Resolver(targets, self._set_addresses, interval_s=resolve_interval_s, resolve=resolve)
        self._follows = bool(targets)
        self._tasks = tasks
        self._resolving: BackgroundTask | None = None
        self._watches: dict[str, BackgroundTask] = {}
        self._instances: dict[str, str] = {}
        """Address → the router that answered there last."""

    async def start(self) -> None:
        """Begins to follow the names."""
        if self._follows:
            self._resolving = self._tasks.start("resolver", self._resolver.run, about="(siblings)")

    async def close(self) -> None:
        """Stops following, and closes the connections."""
        following = [*([self._resolving] if self._resolving else []), *self._watches.values()]
        for task in following:
            task.stop()
        for task in following:
            await task.wait()
        await self._siblings.close()

    def _set_addresses(self, _fixed: frozenset[str], resolved: frozenset[str]) -> None:
        for address in self._watches.keys() - resolved:
            self._watches.pop(address).stop()
            self._instances.pop(address, None)
            self._tasks.start("leaving sibling", partial(self._siblings.disconnect, address), about=address)
        for address in resolved - self._watches.keys():
            self._watches[address] = self._tasks.start("sibling", partial(self._watch, address), about=address)
        self._tell()

    async def _watch(self, address: str) -> None:
        """Learns who answers at the address, again after each interruption."""
        while True:
            try:
                async for instance in self._siblings.watch(address):
                    self._note(address, instance)
                self._resolver.hurry()
            except grpc.aio.AioRpcError as error:
                self._note_end(address, error)
            await asyncio.sleep(RETRY_S)

    def _note_end(self, address: str, error: grpc.aio.AioRpcError) -> None:
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            self._note(address, f"of an earlier version at {address}")  # and so another one than this
        elif address in self._instances:
            self._resolver.hurry()

    def _note(self, address: str, instance: str) -> None:
        self._instances[address] = instance
        self._tell()

    def _tell(self) -> None:
        found: dict[str, str] = {}  # a router with several addresses is one
        for address, instance in sorted(self._instances.items()):
            found.setdefault(instance, address)
        found.pop(self._siblings.instance, None)
        before = self._siblings.routers
        self._siblings.set_named({address: instance for instance, address in found.items()})
        if self._siblings.routers != before:
            _log.info("%d routers side by side", self._siblings.routers)
