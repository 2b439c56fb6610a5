"""Decides who may use shared memory: clients on this machine, if the setting allows it; each has regions of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_router.access.access import Access
from infermesh_router.access.local_callers import is_local
from infermesh_router.kserve.shared_memory.regions import Regions
from infermesh_runtime.errors import InfermeshError, PermissionDenied
from infermesh_runtime.rpc.context import RpcContext


class SharedMemory:
    """The regions, for those who may use them."""

    def __init__(self, regions: Regions, access: Access, *, allowed: bool, several_routers: bool = False) -> None:
        """`several_routers`: others may serve the same clients side by side, of which only one would know a region."""
        self._several = several_routers
        self.regions = regions
        self._access = access
        self._allowed = allowed

    def enter(self, context: RpcContext) -> str:
        """The name under which the caller's regions are kept. Raises PermissionDenied and Unauthenticated."""
        key = self._access.identify(context)
        if not self._allowed:
            raise _refused(
                "The router does not use shared memory. Operators allow it with INFERMESH_SHARED_MEMORY=true."
            )
        if self._several:
            raise _refused("Shared memory needs a mesh with one router.")
        if not is_local(context):
            raise _refused("Shared memory is for clients on the router's own machine.")
        return key.name if key else ""


def _refused(message: str) -> PermissionDenied:
    return PermissionDenied(message, reason="SHARED_MEMORY_NOT_ALLOWED")


@contextmanager
def renamed(tensor: str) -> Iterator[None]:
    """Says in an error about shared memory which tensor it is about."""
    try:
        yield
    except InfermeshError as error:
        error.message = f"The tensor '{tensor}': {error.message}"
        raise
