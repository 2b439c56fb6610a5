"""Owns making a model ready that no endpoint has ready: picks an endpoint, has it load the model, waits for its report.

Where to load is the policy's; how to make room is the endpoint's. Knows no request but what it wants.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.faults import to_told
from infermesh_router.fleet.fleet import Fleet
from infermesh_router.metrics import RouterMetrics
from infermesh_router.policy import placing
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import EndpointSnapshot, State, Wanted
from infermesh_runtime.errors import Cancelled, InfermeshError, Unavailable

_log = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 1800.0
REPORT_TIMEOUT_S = 10.0
"""Longest wait for an endpoint's report to show a model that it said it had loaded."""
_ENDPOINTS_TO_TRY = 2
_SETTLE_S = 0.3
"""What a request or a model leaves free is in its endpoint's report within about this time."""
_SETTLE_STEP_S = 0.02

Place = Callable[[Sequence[EndpointSnapshot], Wanted], placing.Placement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Residence:
    """How long a model that is loaded for a request stays."""

    pinned: bool = False
    """Never unloaded to make room, nor for being idle."""
    keep_alive_s: float | None = None
    """Time after its last request when it is unloaded; None: the endpoint's own setting, 0: never."""

    def request(self, model: str) -> pb.LoadModelRequest:
        """What an endpoint is asked."""
        return pb.LoadModelRequest(model=model, pinned=self.pinned, keep_alive_s=self.keep_alive_s)


class Placement:
    """Loads models. One load for all that wait for the same model on the same device; `close` ends those that run."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        place: Place,
        metrics: RouterMetrics,
        residence: Callable[[str], Residence] = lambda _model: Residence(),
        load_timeout_s: float = LOAD_TIMEOUT_S,
        report_timeout_s: float = REPORT_TIMEOUT_S,
    ) -> None:
        self._fleet = fleet
        self._place = place
        self._metrics = metrics
        self._residence = residence
        self._load_timeout_s = load_timeout_s
        self._report_timeout_s = report_timeout_s
        self._loads: dict[tuple[str, str, frozenset[str]], asyncio.Task[list[str]]] = {}

    @property
    def loading(self) -> int:
        """Loads that run."""
        return len(self._loads)

    async def ensure(self, wanted: Wanted) -> None:
        """Returns when the model is ready on an endpoint that has the device asked for.

        Raises InfermeshError: ModelDoesNotFit when no endpoint has the memory, saying what is needed and what is free.
        Cancelling it leaves the load going on: others may wait for it, and the next request will want it.
        """
        await self.load(wanted, self._residence(wanted.model).request(wanted.model))

    async def load(self, wanted: Wanted, request: pb.LoadModelRequest) -> list[str]:
        """As `ensure`, with the request that the endpoint gets; the models that were unloaded for it."""
        key = (wanted.model, wanted.device, wanted.tried)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(self._load(wanted, request))
            task.add_done_callback(lambda done: self._finish(key, done))
        try:
            return list(await asyncio.shield(task))
        except asyncio.CancelledError:
            if task.cancelled():
                raise Cancelled("The router stops.", reason="ROUTER_STOPS") from None
            raise

    async def close(self) -> None:
        """Waits for no load any more."""
        loads = list(self._loads.values())
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    def _finish(self, key: tuple[str, str, frozenset[str]], task: asyncio.Task[list[str]]) -> None:
        del self._loads[key]
        if task.cancelled():
            return
        error = task.exception()
        self._metrics.loads.labels("loaded" if error is None else "failed").inc()
        if error is not None:
            _log.warning("the model %s could not be loaded: %s", key[0], error)

    async def _load(self, wanted: Wanted, request: pb.LoadModelRequest) -> list[str]:
        """Loads on the endpoint that suits best, and when that fails on another. Raises the first one's error."""
        failure: InfermeshError | None = None
        for _ in range(_ENDPOINTS_TO_TRY):
            try:
                target = await self._find_place(wanted)
            except InfermeshError as refusal:
                raise failure or refusal from None
            try:
                async with asyncio.timeout(self._load_timeout_s):
                    return await self._load_on(target, request)
            except TimeoutError:
                error: InfermeshError = self._late(target.address, wanted.model)
            except InfermeshError as refusal:
                error = refusal
            _log.warning("endpoint %s does not load the model %s: %s", target.address, wanted.model, error.message)
            failure = failure or error
            wanted = replace(wanted, tried=wanted.tried | {target.address})
        assert failure is not None  # noqa: S101 - the loop ran
        raise failure

    async def _find_place(self, wanted: Wanted) -> placing.Placement:
        """Raises what the policy refuses with; for want of memory only when no report changes that for a moment."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + _SETTLE_S
        while True:
            endpoints = self._fleet.snapshots
            try:
                return self._place(endpoints, wanted)
            except ModelDoesNotFit:
                if loop.time() >= give_up_s or not _could_fit(endpoints, wanted.model):
                    raise
            await asyncio.sleep(_SETTLE_STEP_S)

    async def _load_on(self, target: placing.Placement, request: pb.LoadModelRequest) -> list[str]:
        unloaded: list[str] = []
        if target.reason != placing.LOADING:
            endpoint = self._fleet.get(target.address)
            _log.info("endpoint %s loads the model %s: %s", target.address, request.model, target.reason)
            unloaded = await load_on(endpoint, request)
            async with asyncio.timeout(self._report_timeout_s):
                await self._reported(target.address, request.model, loading=False)
        else:
            await self._reported(target.address, request.model, loading=True)
        return unloaded

    async def _reported(self, address: str, model: str, *, loading: bool) -> None:
        """Returns when the endpoint's report shows the model ready. Raises Unavailable when it is not to be.

        `loading`: the report shows the model loading, and shows it no more when that fails.
        """
        changes = self._fleet.changes
        while True:
            version = changes.version
            seen = self._find(address)
            if seen is not None and model in seen.ready_models:
                return
            lost = seen is None or not seen.connected or seen.state is not State.READY
            if lost or (loading and seen is not None and model not in seen.models):
                raise Unavailable(
                    f"Endpoint {address} could not load the model '{model}'.",
                    reason="MODEL_NOT_LOADED",
                    metadata={"model": model, "endpoint": address},
                    retry_after_s=1.0,
                )
            await changes.wait_beyond(version)

    def _find(self, address: str) -> EndpointSnapshot | None:
        try:
            return self._fleet.get(address).snapshot
        except KeyError:
            return None

    def _late(self, address: str, model: str) -> InfermeshError:
        return Unavailable(
            f"Endpoint {address} did not load the model '{model}' in time.",
            reason="MODEL_NOT_LOADED",
            metadata={"model": model, "endpoint": address},
            retry_after_s=1.0,
        )


def _could_fit(endpoints: Iterable[EndpointSnapshot], model: str) -> bool:
    """Whether an endpoint with nothing loaded would have the memory."""
    return any(model in e.available and e.available[model] <= e.memory_total_bytes for e in endpoints)


async def load_on(endpoint: Endpoint, request: pb.LoadModelRequest) -> list[str]:
    """Has the endpoint load a model; the models it unloaded for it. Raises what it answers."""
    async with endpoint_service(endpoint) as stub:
        response: pb.LoadModelResponse = await stub.LoadModel(request)
    return list(response.unloaded)


@asynccontextmanager
async def endpoint_service(endpoint: Endpoint) -> AsyncIterator[pb_grpc.EndpointServiceStub]:
    """The endpoint's EndpointService, whose failed calls raise InfermeshError in the block."""
    try:
        yield pb_grpc.EndpointServiceStub(endpoint.channel)  # type: ignore[no-untyped-call] # generated
    except grpc.aio.AioRpcError as error:
        raise to_told(error, endpoint.address) from error
