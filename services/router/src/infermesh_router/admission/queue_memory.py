"""Says how much memory the queues of this router may hold, beside those of the other routers."""

from collections.abc import Callable
from pathlib import Path

from infermesh_router.admission.admission import MEMORY_SHARE
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.machine import CGROUP, memory_is_limited, memory_total_bytes


def queue_memory(set_bytes: int | None, siblings: Siblings, cgroup: Path = CGROUP) -> Callable[[], int]:
    """The most bytes, now. What is set is for all routers together; else it is a part of the memory that they share.

    Those that were found by name share the machine's, as far as one can tell, but not what is this container's alone.
    """
    if set_bytes is not None:
        return lambda: set_bytes // siblings.routers
    most_bytes = memory_total_bytes(cgroup) // MEMORY_SHARE
    if memory_is_limited(cgroup):
        return lambda: most_bytes // siblings.routers_here
    return lambda: most_bytes // siblings.routers
