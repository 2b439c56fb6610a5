"""Follows the imports of all endpoints: asks those whose reports say that something has changed."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import grpc

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.admin.v1 import admin_pb2_grpc
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.faults import operator_error
from infermesh_router.mesh.imports.import_book import ImportBook
from infermesh_runtime.errors import InfermeshError

_LOOK_S = 0.1
"""Shortest time between two looks."""
_AGAIN_S = 1.0
"""When an endpoint is asked again that did not answer."""
_ANSWER_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class ImportFollower:
    """Keeps a book up to date."""

    def __init__(self, fleet: Fleet, book: ImportBook) -> None:
        self._fleet = fleet
        self._book = book
        self._seen: dict[str, tuple[int, int]] = {}
        """When each endpoint's process started, and how many changes of its imports are in the book."""

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        changes = self._fleet.changes
        while True:
            version = changes.version
            answered = await self.look()
            await asyncio.sleep(_LOOK_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if answered else _AGAIN_S):
                    await changes.wait_beyond(version)

    async def look(self) -> bool:
        """Brings the book up to date; returns whether every endpoint that was asked has answered."""
        endpoints = {endpoint.address: endpoint for endpoint in self._fleet.endpoints}
        connected = {address for address, endpoint in endpoints.items() if endpoint.connected}
        for address in self._book.busy_endpoints - connected:
            self._book.note_loss(address, endpoints[address].last_error if address in endpoints else "")
        self._seen = {address: told for address, told in self._seen.items() if address in connected}
        due = [endpoint for endpoint in endpoints.values() if endpoint.connected and self._is_due(endpoint)]
        return all(await asyncio.gather(*map(self._ask, due)))

    def _is_due(self, endpoint: Endpoint) -> bool:
        told = _told(endpoint)
        return told is not None and self._seen.get(endpoint.address) != told

    async def _ask(self, endpoint: Endpoint) -> bool:
        told, running = _told(endpoint), self._book.running_on(endpoint.address)
        listed: list[admin.ModelImport] = []
        if told is not None and told[1]:
            try:
                async with folder_service(endpoint) as stub:
                    answer = await stub.ListImports(admin.ListImportsRequest(), timeout=_ANSWER_TIMEOUT_S)
                listed = list(answer.imports)
            except InfermeshError as error:
                _log.info("an endpoint does not list its imports", extra={"reason": error.message})
                return False
        self._book.note_all(endpoint.address, listed, running)
        if told is not None:
            self._seen[endpoint.address] = told
        return True


@asynccontextmanager
async def folder_service(endpoint: Endpoint) -> AsyncIterator[admin_pb2_grpc.ModelsFolderServiceStub]:
    """The endpoint's ModelsFolderService; calls that fail in the block raise InfermeshError."""
    try:
        yield admin_pb2_grpc.ModelsFolderServiceStub(endpoint.channel)
    except grpc.aio.AioRpcError as error:
        raise operator_error(error, endpoint.address) from error


def _told(endpoint: Endpoint) -> tuple[int, int] | None:
    report = endpoint.last_report
    if report is None or not report.HasField("models_folder"):
        return None
    return report.started_at.ToNanoseconds(), report.models_folder.import_changes
