"""Owns loading and unloading a model on the endpoints because an operator says so. Knows no request and no queue."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.fleet import Fleet
from infermesh_router.placement.placement import REPORT_TIMEOUT_S, Placement, endpoint_service, load_on
from infermesh_router.policy.filters import list_models
from infermesh_router.policy.snapshot import Wanted
from infermesh_runtime.errors import InvalidArgument, ModelNotFound


class Models:
    """The models of a fleet."""

    def __init__(self, fleet: Fleet, placement: Placement) -> None:
        self._fleet = fleet
        self._placement = placement

    async def load(self, request: pb.LoadModelRequest) -> list[str]:
        """Has the model ready somewhere: on the endpoints that have it, else where it is placed. Those unloaded for it.

        Where it is loaded already the endpoints are told all the same, for how long it stays may change. Raises
        InfermeshError: ModelNotFound, ModelDoesNotFit, and what an endpoint answers.
        """
        model = _named(request.model)
        having = [endpoint for endpoint in self._connected() if model in endpoint.snapshot.ready_models]
        if not having:
            return await self._placement.load(Wanted(model=model), request)
        unloaded = await asyncio.gather(*(load_on(endpoint, request) for endpoint in having))
        return [name for names in unloaded for name in names]

    async def unload(self, request: pb.UnloadModelRequest) -> None:
        """Unloads it from every endpoint that has it. Raises ModelNotFound when none has, and what one answers."""
        model = _named(request.model)
        having = [endpoint for endpoint in self._connected() if model in endpoint.snapshot.models]
        if not having:
            raise _not_loaded(model, self._connected())
        failures = await asyncio.gather(*(_unload(endpoint, request) for endpoint in having), return_exceptions=True)
        for failure in failures:
            if failure is not None:
                raise failure
        await self._reported_gone(model, {endpoint.address for endpoint in having})

    async def _reported_gone(self, model: str, addresses: Collection[str]) -> None:
        """Returns when their reports show it no more, or after a while: the next request is placed by them."""
        changes = self._fleet.changes
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                while any(e.address in addresses and model in e.snapshot.models for e in self._connected()):
                    await changes.wait_beyond(changes.version)

    def _connected(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._fleet.endpoints if endpoint.connected]


async def _unload(endpoint: Endpoint, request: pb.UnloadModelRequest) -> None:
    async with endpoint_service(endpoint) as stub:
        await stub.UnloadModel(request)


def _named(model: str) -> str:
    if not model:
        raise InvalidArgument("model: is required", fields={"model": "is required"})
    return model


def _not_loaded(model: str, endpoints: Sequence[Endpoint]) -> ModelNotFound:
    known = list_models([endpoint.snapshot for endpoint in endpoints])
    what = "is loaded nowhere" if model in known else f"does not exist; available: {', '.join(known) or 'none'}"
    return ModelNotFound(f"The model '{model}' {what}.", metadata={"model": model, "available": ",".join(known)})
