"""The models that are loaded: where, and how long they stay after a request, as clients of Ollama's API ask."""

import asyncio
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.ollama.durations import FOREVER_S
from infermesh_router.placement.placer import load_on
from infermesh_router.policy.snapshot import DeviceKind
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import InfermeshError

_log = logging.getLogger(__name__)

_ACCELERATORS = frozenset({DeviceKind.XPU, DeviceKind.CUDA})
_AT_ONCE_S = 0.001
"""Unloads the model as soon as no request uses it; in the contract, 0 means never."""


class LoadedModels:
    """What the endpoints have loaded. Sets how long it stays, except for pinned models: operators pin them."""

    def __init__(
        self, fleet: Fleet, *, aliases: Callable[[], Mapping[str, Sequence[str]]], tasks: TaskSupervisor
    ) -> None:
        """`aliases` returns the models that each alias stands for."""
        self._fleet = fleet
        self._aliases = aliases
        self._tasks = tasks

    def is_pinned(self, model: str) -> bool:
        """Whether the model, or one that it stands for, is pinned on some endpoint."""
        return any(status.pinned for _, status in self._loaded(model))

    def is_on_accelerator(self, model: str) -> bool:
        """Whether it is ready on a GPU."""
        return any(endpoint.snapshot.device in _ACCELERATORS for endpoint, _ in self._loaded(model))

    def begin_keeping(self, model: str, keep_alive_s: float) -> None:
        """Like `keep`, in the background: nobody waits for it."""
        if self._differing(model, _in_contract(keep_alive_s)):
            self._tasks.start("keep-alive", partial(self.keep, model, keep_alive_s), about=model)

    async def keep(self, model: str, keep_alive_s: float) -> None:
        """Tells the endpoints on which the model is ready, if they keep it for another time. Failures are logged."""
        wanted_s = _in_contract(keep_alive_s)
        told = (self._tell(endpoint, name, wanted_s) for endpoint, name in self._differing(model, wanted_s))
        await asyncio.gather(*told)

    async def _tell(self, endpoint: Endpoint, model: str, keep_alive_s: float) -> None:
        try:
            await load_on(endpoint, admin_pb2.LoadModelRequest(model=model, keep_alive_s=keep_alive_s))
        except InfermeshError as error:
            _log.warning("endpoint %s did not take a keep-alive time for %s: %s", endpoint.address, model, error)

    def _differing(self, model: str, keep_alive_s: float) -> list[tuple[Endpoint, str]]:
        return [
            (endpoint, status.name)
            for endpoint, status in self._loaded(model)
            if not status.pinned and not math.isclose(status.keep_alive_s, keep_alive_s, rel_tol=1e-6)
        ]

    def _loaded(self, model: str) -> Iterator[tuple[Endpoint, pb.ModelStatus]]:
        names = self._aliases().get(model) or [model]
        for endpoint in self._fleet.endpoints:
            if endpoint.connected and endpoint.last_report is not None:
                for status in endpoint.last_report.models:
                    if status.name in names and status.state == pb.ENDPOINT_STATE_READY:
                        yield endpoint, status


def _in_contract(keep_alive_s: float) -> float:
    """The keep-alive time as LoadModelRequest has it."""
    if keep_alive_s == FOREVER_S:
        return 0.0
    return max(keep_alive_s, _AT_ONCE_S)
