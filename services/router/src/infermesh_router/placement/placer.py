"""Makes a model ready: asks the policy where to load it, sends the load command, and waits for the endpoint's report.

The endpoint itself decides which idle models to unload to make room.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import grpc

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.faults import operator_error
from infermesh_router.fleet.reports.loading import describe_loading
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.placement.base_models import refuse_base_model
from infermesh_router.placement.shared_load import SharedLoad, merged
from infermesh_router.policy import placing
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import EndpointSnapshot, EndpointState, Wanted
from infermesh_router.requests.telling import Telling
from infermesh_runtime.background.shared_call import SharedCall
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import Cancelled, InfermeshError, Unavailable

_log = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 1800.0
TELL_S = 2.0
"""How often clients are told how far a load is."""
REPORT_TIMEOUT_S = 10.0
"""Longest wait for a report that lists a model which the endpoint says it has loaded."""
_ENDPOINTS_TO_TRY = 2
_SETTLE_S = 0.3
"""Memory that a request or model has freed shows up in the endpoint's report within about this time."""

_Key = tuple[str, str, frozenset[str], bool]
"""What requests must have in common to share a load: model, device, and the endpoints tried before."""

Place = Callable[[Sequence[EndpointSnapshot], Wanted], placing.Placement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a model stays that was loaded for a request."""

    pinned: bool = False
    """If true, the model is unloaded neither to make room nor for being idle."""
    keep_alive_s: float | None = None
    """Idle time after which it is unloaded; 0 means never, None the endpoint's own setting."""

    def request(self, model: str) -> pb.LoadModelRequest:
        """The request that tells an endpoint to load the model."""
        return pb.LoadModelRequest(model=model, pinned=self.pinned, keep_alive_s=self.keep_alive_s)


class Placer:
    """Loads models. Requests for the same model on the same device share one load; `close` stops waiting for all."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        place: Place,
        metrics: RequestMetrics,
        retention: Callable[[str], Retention] = lambda _model: Retention(),
        load_timeout_s: float = LOAD_TIMEOUT_S,
        report_timeout_s: float = REPORT_TIMEOUT_S,
        tasks: TaskSupervisor | None = None,
    ) -> None:
        self._fleet = fleet
        self._place = place
        self._metrics = metrics
        self._retention = retention
        self._load_timeout_s = load_timeout_s
        self._report_timeout_s = report_timeout_s
        self._tasks = tasks or TaskSupervisor()
        self._loads: dict[_Key, SharedLoad] = {}

    @property
    def loading(self) -> int:
        """Number of running loads."""
        return len(self._loads)

    async def ensure(self, wanted: Wanted, telling: Telling | None = None) -> None:
        """Waits until the model is ready on an endpoint with the requested device, loading it if necessary.

        `telling` tells the client meanwhile how far the load is.

        Raises InfermeshError; ModelDoesNotFit if no endpoint has the memory. Cancelling the call does not cancel the
        load: other requests may wait for it, and the next one probably will.
        """
        if wanted.chat:
            refuse_base_model(self._fleet.endpoints, wanted.model)
        await self.load(wanted, self._retention(wanted.model).request(wanted.model), telling)

    async def load(self, wanted: Wanted, request: pb.LoadModelRequest, telling: Telling | None = None) -> list[str]:
        """Like `ensure`, with the request to send to the endpoint. Returns the models that were unloaded for it.

        A caller that joins a running load adds its pin and keep-alive time to it, and they stay if it leaves.
        """
        key = (wanted.model, wanted.device, wanted.tried, bool(wanted.image))
        load = self._loads.get(key)
        if load is not None and not load.call.done:
            load.join(request)
        else:
            load = self._begin(key, wanted, request)
        try:
            if telling is not None:
                await telling.until(load.call.settled, partial(self._describe, wanted.model), every_s=TELL_S)
            return list(await load.call.result())
        except asyncio.CancelledError:
            if load.call.cancelled:
                raise Cancelled("The router is stopping.", reason="ROUTER_STOPS") from None
            raise

    def _describe(self, model: str, _waited_s: float) -> str:
        return describe_loading(self._fleet.endpoints, model) or f"loading {model}"

    async def close(self) -> None:
        """Stops waiting for every load."""
        await asyncio.gather(*(load.call.stop() for load in list(self._loads.values())))

    def _begin(self, key: _Key, wanted: Wanted, request: pb.LoadModelRequest) -> SharedLoad:
        load = self._loads[key] = SharedLoad(merged(pb.LoadModelRequest(model=wanted.model), request))
        load.call = SharedCall(self._tasks, "load", partial(self._load, wanted, load), about=wanted.model)
        load.call.on_done(lambda: self._finish(key, load))
        return load

    def _finish(self, key: _Key, load: SharedLoad) -> None:
        if self._loads.get(key) is load:
            del self._loads[key]
        if load.call.cancelled:
            return
        error = load.call.error
        self._metrics.loads.labels("loaded" if error is None else "failed").inc()
        if error is not None:
            _log.warning("could not load the model %s: %s", key[0], error)

    async def _load(self, wanted: Wanted, load: SharedLoad) -> list[str]:
        """Loads on the best endpoint and, if that fails, on one other. Raises the first endpoint's error."""
        failure: InfermeshError | None = None
        for _ in range(_ENDPOINTS_TO_TRY):
            try:
                target = await self._find_place(wanted)
            except InfermeshError as refusal:
                raise failure or refusal from None
            try:
                async with asyncio.timeout(self._load_timeout_s):
                    return await self._load_on(target, load)
            except TimeoutError:
                error: InfermeshError = self._too_late(target.address, wanted.model)
            except InfermeshError as refusal:
                error = refusal
            _log.warning("endpoint %s could not load the model %s: %s", target.address, wanted.model, error.message)
            failure = failure or error
            wanted = replace(wanted, tried=wanted.tried | {target.address})
        assert failure is not None  # noqa: S101 - the loop runs at least once
        raise failure

    async def _find_place(self, wanted: Wanted) -> placing.Placement:
        """Where to load the model. Raises what `place` raises, ModelDoesNotFit only after trying for a moment."""
        changes, refusal = self._fleet.changes, None
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while True:
                    version, endpoints = changes.version, self._fleet.snapshots
                    try:
                        return self._place(endpoints, wanted)
                    except ModelDoesNotFit as error:
                        refusal = error
                    if not _could_fit(endpoints, wanted.model):
                        break
                    await changes.wait_beyond(version)
        assert refusal is not None  # noqa: S101 - the loop ends by one only
        raise refusal

    async def _load_on(self, target: placing.Placement, load: SharedLoad) -> list[str]:
        """Loads there and waits for the report. The endpoint is told again as long as callers join with new wishes."""
        model, loading = load.wish.model, target.reason == placing.LOADING
        told = pb.LoadModelRequest(model=model) if loading else None
        unloaded: list[str] = []
        if not loading:
            _log.info("loading the model %s on endpoint %s: %s", model, target.address, target.reason)
        while True:
            if told != load.wish:
                told, loading = load.wish, False
                unloaded += await load_on(self._fleet.get(target.address), told)
            async with asyncio.timeout(None if loading else self._report_timeout_s):
                await self._wait_until_ready(target.address, model, loading=loading)
            if told == load.wish:
                return unloaded

    async def _wait_until_ready(self, address: str, model: str, *, loading: bool) -> None:
        """Waits until the endpoint's report lists the model as ready. Raises Unavailable if that will not happen.

        `loading` means that the report lists the model as loading; if it no longer does, the load has failed.
        """
        changes = self._fleet.changes
        while True:
            version = changes.version
            seen = self._find(address)
            if seen is not None and model in seen.ready_models:
                return
            lost = seen is None or not seen.connected or seen.state is not EndpointState.READY
            if lost or (loading and seen is not None and model not in seen.models):
                raise Unavailable(
                    f"Endpoint {address} could not load the model '{model}'. Its log says why.",
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

    def _too_late(self, address: str, model: str) -> InfermeshError:
        return Unavailable(
            f"Endpoint {address} did not load the model '{model}' in time. Its log says how far it got.",
            reason="MODEL_NOT_LOADED",
            metadata={"model": model, "endpoint": address},
            retry_after_s=1.0,
        )


def _could_fit(endpoints: Iterable[EndpointSnapshot], model: str) -> bool:
    """Whether some endpoint would have enough memory if nothing were loaded on it."""
    return any(model in e.available and e.available[model] <= e.memory_total_bytes for e in endpoints)


async def load_on(endpoint: Endpoint, request: pb.LoadModelRequest) -> list[str]:
    """Tells an endpoint to load a model; returns the models it unloaded for it. Raises what the endpoint answers."""
    async with endpoint_service(endpoint) as stub:
        response: pb.LoadModelResponse = await stub.LoadModel(request)
    return list(response.unloaded)


async def unload_from(endpoint: Endpoint, model: str, *, force: bool = False) -> None:
    """Tells an endpoint to unload a model. Raises what the endpoint answers."""
    async with endpoint_service(endpoint) as stub:
        await stub.UnloadModel(pb.UnloadModelRequest(model=model, force=force))


@asynccontextmanager
async def endpoint_service(endpoint: Endpoint) -> AsyncIterator[pb_grpc.EndpointServiceStub]:
    """The endpoint's EndpointService; calls that fail in the block raise InfermeshError."""
    try:
        yield pb_grpc.EndpointServiceStub(endpoint.channel)
    except grpc.aio.AioRpcError as error:
        raise operator_error(error, endpoint.address) from error
