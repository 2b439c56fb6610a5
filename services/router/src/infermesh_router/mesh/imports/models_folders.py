"""Imports models into the models folders of endpoints, and removes them: chooses the endpoint and passes calls on."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.mesh.imports.import_book import RUNNING, ImportBook
from infermesh_router.mesh.imports.import_follower import ImportFollower, folder_service
from infermesh_runtime.errors import (
    FailedPrecondition,
    InfermeshError,
    ModelNotFound,
    NotFound,
    ResourceExhausted,
    Unavailable,
    from_code,
)
from infermesh_runtime.importing.network_imports import check_model_name, check_network_source, check_weights

_TIMEOUT_S = 60.0
"""Longest time for a call to an endpoint."""
_REPORT_TIMEOUT_S = 5.0
"""Longest wait for reports that no longer list a removed model."""
_IMPORT_NOT_POSSIBLE = "IMPORT_NOT_POSSIBLE"


class ModelsFolders:
    """The models folders of a fleet's endpoints, some of which may share one."""

    def __init__(self, fleet: Fleet, book: ImportBook, follower: ImportFollower) -> None:
        self._fleet = fleet
        self._book = book
        self._follower = follower

    def imports(self) -> list[pb.Import]:
        """The imports that run, and the last ones that ended, newest first."""
        return self._book.all

    async def start(self, request: pb.StartImportRequest) -> pb.Import:
        """Begins an import on the endpoint that the request names, or on the first that can and is not busy with one.

        Raises InvalidArgument, NotFound, FailedPrecondition (such as MODEL_IN_USE for a loaded model that would be
        replaced), AlreadyExists, ResourceExhausted or Unavailable.
        """
        asked = admin.StartImportRequest(
            source=check_network_source(request.source),
            name=check_model_name(request.name),
            weights=check_weights(request.weights),
            force=request.force,
        )
        refusal: InfermeshError | None = None
        for endpoint in self._able(request.endpoint):
            if request.force:
                _check_unused(asked.name, [each for each in self._sharing([endpoint]) if _holds(each, asked.name)])
            try:
                async with folder_service(endpoint) as stub:
                    answer = await stub.StartImport(asked, timeout=_TIMEOUT_S)
            except (ResourceExhausted, Unavailable) as error:
                refusal = refusal or error
            else:
                return self._book.note(endpoint.address, answer.model_import)
        raise refusal or FailedPrecondition(f"No endpoint can import models{self._why()}", reason=_IMPORT_NOT_POSSIBLE)

    async def cancel(self, import_id: str) -> pb.Import:
        """Stops an import, and returns it once nothing of it is left. Raises NotFound, and what the endpoint raises."""
        if self._book.find(import_id) is None:
            await self._follower.look()  # another router may have begun it just now
        known = self._book.find(import_id)
        if known is None:
            raise NotFound("There is no import of this id; it may be too long ago.", reason="IMPORT_NOT_FOUND")
        if known.state != RUNNING:
            return known
        endpoint = self._endpoint(known.endpoint)
        async with folder_service(endpoint) as stub:
            answer = await stub.CancelImport(admin.CancelImportRequest(import_id=import_id), timeout=_TIMEOUT_S)
        return self._book.note(endpoint.address, answer.model_import)

    async def remove(self, request: pb.RemoveModelRequest) -> list[str]:
        """Removes a model from disks, and returns the addresses of the endpoints that had it.

        Raises InvalidArgument, NotFound, FailedPrecondition (MODEL_IN_USE), and what an endpoint raises. Such an error
        names the endpoints that no longer have the model all the same.
        """
        model = check_model_name(request.model)
        having = [self._endpoint(request.endpoint)] if request.endpoint else self._having(model)
        sharing = self._sharing(having)
        _check_unused(model, [endpoint for endpoint in sharing if _holds(endpoint, model)])
        concerned = [each for each in sharing if each in having or _lists(each, model)]
        writing = sorted(sharing, key=lambda each: not _import_problem(each))  # the last of each folder counts
        folders = {_folder_id(endpoint): endpoint for endpoint in writing}
        addresses: list[str] = []
        for id_, endpoint in sorted(folders.items(), key=lambda each: not _import_problem(each[1])):
            try:
                if await _remove(endpoint, model):
                    addresses += [each.address for each in concerned if _folder_id(each) == id_]
            except InfermeshError as error:
                raise _with_removed(error, endpoint, addresses) from error
        if not addresses:
            raise _not_there(model)
        await self._wait_until_gone(model, addresses)
        return sorted(addresses)

    def _able(self, address: str) -> list[Endpoint]:
        if not address:
            return [each for each in self._with_folder() if not _import_problem(each)]
        endpoint = self._endpoint(address)
        if problem := _import_problem(endpoint):
            raise FailedPrecondition(f"Endpoint {address} cannot import: {problem}.", reason=_IMPORT_NOT_POSSIBLE)
        return [endpoint]

    def _why(self) -> str:
        problems = [f"{each.address}: {_import_problem(each)}" for each in self._with_folder()]
        return f". {problems[0]}." if problems else "; none with a models folder is connected."

    def _endpoint(self, address: str) -> Endpoint:
        """The connected endpoint of this address, if it has a models folder."""
        endpoint = next((each for each in self._fleet.endpoints if each.address == address), None)
        if endpoint is None:
            raise NotFound(f"There is no endpoint '{address}'.", reason="ENDPOINT_NOT_FOUND")
        if not endpoint.connected:
            raise Unavailable(f"Endpoint {address} is not connected: {endpoint.last_error}", reason="ENDPOINT_LOST")
        if not _folder_id(endpoint):
            raise FailedPrecondition(f"Endpoint {address} has no models folder.", reason=_IMPORT_NOT_POSSIBLE)
        return endpoint

    def _having(self, model: str) -> list[Endpoint]:
        having = [endpoint for endpoint in self._with_folder() if _lists(endpoint, model)]
        if not having:
            raise _not_there(model)
        return having

    def _with_folder(self) -> list[Endpoint]:
        return [each for each in self._fleet.endpoints if each.connected and _folder_id(each)]

    def _sharing(self, some: Sequence[Endpoint]) -> list[Endpoint]:
        """All connected endpoints that have their models in the folders of these."""
        ids = {_folder_id(endpoint) for endpoint in some}
        return [endpoint for endpoint in self._with_folder() if _folder_id(endpoint) in ids]

    async def _wait_until_gone(self, model: str, addresses: Collection[str]) -> None:
        changes = self._fleet.changes
        with suppress(TimeoutError):
            async with asyncio.timeout(_REPORT_TIMEOUT_S):
                while any(each.address in addresses and _lists(each, model) for each in self._with_folder()):
                    await changes.wait_beyond(changes.version)


async def _remove(endpoint: Endpoint, model: str) -> bool:
    """Removes the model from the endpoint's folder; False if it is not there."""
    try:
        async with folder_service(endpoint) as stub:
            await stub.RemoveModel(admin.RemoveModelRequest(model=model), timeout=_TIMEOUT_S)
    except NotFound:
        return False
    return True


def _folder_id(endpoint: Endpoint) -> str:
    return endpoint.last_report.models_folder.id if endpoint.last_report is not None else ""


def _import_problem(endpoint: Endpoint) -> str:
    return endpoint.last_report.models_folder.import_problem if endpoint.last_report is not None else ""


def _lists(endpoint: Endpoint, model: str) -> bool:
    report = endpoint.last_report
    return report is not None and any(each.name == model for each in report.available)


def _holds(endpoint: Endpoint, model: str) -> bool:
    report = endpoint.last_report
    return report is not None and any(each.name == model for each in report.models)


def _check_unused(model: str, holding: Sequence[Endpoint]) -> None:
    if holding:
        where = ", ".join(endpoint.address for endpoint in holding)
        raise FailedPrecondition(
            f"The model '{model}' is loaded on {where}. Unload it first.",
            reason="MODEL_IN_USE",
            metadata={"model": model},
        )


def _with_removed(error: InfermeshError, endpoint: Endpoint, removed: Sequence[str]) -> InfermeshError:
    """The error of an endpoint that did not remove a model; also says where it was removed (metadata `removed`)."""
    if not removed:
        return error
    return from_code(
        error.code,
        f"{endpoint.address}: {error.message} The model was removed on {', '.join(removed)}.",
        reason=error.reason,
        metadata={**error.metadata, "removed": ",".join(removed)},
        fields=error.fields,
        retry_after_s=error.retry_after_s,
    )


def _not_there(model: str) -> ModelNotFound:
    return ModelNotFound(f"No endpoint has the model '{model}' on disk.", metadata={"model": model})
