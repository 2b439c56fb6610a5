"""Carries out an operator's commands to load and unload models."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.placement.placer import REPORT_TIMEOUT_S, Placer, load_on, unload_from
from infermesh_router.placement.shared_load import merged
from infermesh_router.placement.wish_keeper import WishKeeper
from infermesh_router.policy.filters import fits_device, list_models
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.errors import InvalidArgument, ModelNotFound


class ModelCommands:
    """Loads and unloads models on the endpoints of a fleet. An alias stands for all of its models."""

    def __init__(
        self,
        fleet: Fleet,
        placer: Placer,
        *,
        wishes: WishKeeper | None = None,
        aliases: Callable[[], Mapping[str, Sequence[str]]] = dict,
        siblings: Siblings | None = None,
    ) -> None:
        """`wishes` keeps loaded what operators load. `aliases` returns the models that each alias stands for.

        `siblings`: the other routers of the mesh, which must not load again what was unloaded here.
        """
        self._siblings = siblings or Siblings()
        self._fleet = fleet
        self._wishes = wishes or WishKeeper(fleet, placer)
        self._placer = placer
        self._aliases = aliases

    async def load(self, request: pb.LoadModelRequest) -> list[str]:
        """Makes each model that the name stands for ready on some endpoint; returns the models unloaded for them.

        Raises ModelNotFound, ModelDoesNotFit, and whatever an endpoint answers.
        """
        unloaded: list[str] = []
        for model in self._models(request.model):
            one = pb.LoadModelRequest()
            one.CopyFrom(request)
            one.model = model
            unloaded += await self._load(one)
        return unloaded

    async def unload(self, request: pb.UnloadModelRequest) -> None:
        """Unloads each model that the name stands for from every endpoint.

        Raises ModelNotFound if none has any of them, and what an endpoint answers.
        """
        models = self._models(request.model)
        loaded = [m for m in models if any(m in endpoint.snapshot.models for endpoint in self._connected())]
        for model in loaded:
            await self._unload(model, force=request.force)
        ended = [self._wishes.note_unload(model) for model in models]
        ended += [await self._siblings.forget(model) for model in models]
        if not loaded and not any(ended):
            raise _not_loaded(models[0], self._connected())

    def forget(self, model: str, endpoint: str = "") -> None:
        """No longer keeps the model loaded on that endpoint, or on any: another router has unloaded or moved it.

        Raises ModelNotFound if it was not to be kept.
        """
        if not self._wishes.note_unload(model, endpoint):
            raise _not_loaded(model, self._connected())

    def _models(self, name: str) -> Sequence[str]:
        return self._aliases().get(_check_name(name)) or [name]

    async def _load(self, request: pb.LoadModelRequest) -> list[str]:
        """Loads one model.

        Endpoints that have it ready get the command too, because it may change how long the model stays. If there are
        none, the placer loads it.
        """
        wanted = Wanted(model=request.model, device=request.device)
        having = [e for e in self._connected() if fits_device(e.snapshot, wanted) and _is_ready(e, request.model)]
        if having:
            plain = merged(pb.LoadModelRequest(model=request.model), request)
            unloaded = await asyncio.gather(*(load_on(endpoint, plain) for endpoint in having))
            names = [name for names in unloaded for name in names]
        else:
            names = await self._placer.load(wanted, request)
        self._wishes.note_load(wanted)
        return names

    async def _unload(self, model: str, *, force: bool) -> None:
        having = [endpoint for endpoint in self._connected() if model in endpoint.snapshot.models]
        failures = await asyncio.gather(
            *(unload_from(endpoint, model, force=force) for endpoint in having), return_exceptions=True
        )
        for failure in failures:
            if failure is not None:
                raise failure
        await self._wait_until_gone(model, {endpoint.address for endpoint in having})

    async def _wait_until_gone(self, model: str, addresses: Collection[str]) -> None:
        """Waits, for a while at most, until their reports no longer list the model: the next request relies on them."""
        changes = self._fleet.changes
        with suppress(TimeoutError):
            async with asyncio.timeout(REPORT_TIMEOUT_S):
                while any(e.address in addresses and model in e.snapshot.models for e in self._connected()):
                    await changes.wait_beyond(changes.version)

    def _connected(self) -> list[Endpoint]:
        return [endpoint for endpoint in self._fleet.endpoints if endpoint.connected]


def _is_ready(endpoint: Endpoint, model: str) -> bool:
    return model in endpoint.snapshot.ready_models


def _check_name(model: str) -> str:
    if not model:
        raise InvalidArgument("'model' is required; set it to the name of a model.", fields={"model": "is required"})
    return model


def _not_loaded(model: str, endpoints: Sequence[Endpoint]) -> ModelNotFound:
    known = list_models([endpoint.snapshot for endpoint in endpoints])
    what = (
        "is not loaded on any endpoint"
        if model in known
        else f"does not exist; available: {', '.join(known) or 'none'}"
    )
    return ModelNotFound(f"The model '{model}' {what}.", metadata={"model": model, "available": ",".join(known)})
