"""BatchService: keeps files of requests, and runs them as batches. Envoy handles HTTP."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from collections.abc import Mapping
from typing import Any

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.openai.v1 import batches_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.batches.arriving import FileReader
from infermesh_router.batches.new_batch import new_batch, read_body_of
from infermesh_router.batches.openapi import OCTETS
from infermesh_router.batches.runner import BatchRunner
from infermesh_router.batches.schema import BatchBody
from infermesh_router.batches.shapes import show_batch, show_file, show_list
from infermesh_router.batches.store.batch_store import BatchStore
from infermesh_router.batches.store.batches import Batches
from infermesh_router.batches.store.files import Files
from infermesh_router.batches.store.kept import Batch
from infermesh_router.openai.answerer import JSON, ignored_headers
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.packed_body import encoding_of
from infermesh_router.openai.reception import sent_by
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.query_string import read_query
from infermesh_runtime.rpc.context import RpcContext

LIMITED_CALLS = ("CreateFile", "CreateBatch")
"""Calls that count for INFERMESH_MAX_CALLS."""
SERVICE = pb.DESCRIPTOR.services_by_name["BatchService"].full_name


class BatchServicer:
    """BatchService of one router."""

    def __init__(
        self, store: BatchStore, runner: BatchRunner, *, access: Access, pool: ParsingPool, rules: BodyRules
    ) -> None:
        self._store = store
        self._runner = runner
        self._access = access
        self._reader = FileReader(pool, rules)
        self._rules = rules

    async def CreateFile(self, request: bytes, context: RpcContext) -> HttpBody:
        """Keeps a file."""
        owner = self._owner(context)
        name, purpose, content = await self._reader.upload(request, sent_by(context))
        return _json(show_file(await self._store.files(Files.add, owner, name, purpose, content)))

    async def ListFiles(self, request: pb.ListFilesRequest, context: RpcContext) -> HttpBody:
        """The caller's files."""
        query = read_query(context)
        files = await self._store.files(Files.listed, self._owner(context), query.get("purpose", ""))
        return _json(show_list(files, query, show_file))

    async def GetFile(self, request: pb.GetFileRequest, context: RpcContext) -> HttpBody:
        """A file."""
        return _json(show_file(await self._store.files(Files.get, self._owner(context), request.file_id)))

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: RpcContext) -> HttpBody:
        """Deletes a file."""
        await self._store.files(Files.delete, self._owner(context), request.file_id)
        return _json({"id": request.file_id, "object": "file", "deleted": True})

    async def GetFileContent(self, request: pb.GetFileContentRequest, context: RpcContext) -> None:
        """What is in a file, in pieces."""
        owner, after, piece = self._owner(context), -1, b" "
        while piece:
            piece, after = await self._store.files(Files.piece, owner, request.file_id, after)
            if piece:
                await context.write(HttpBody(content_type=OCTETS, data=piece))

    async def CreateBatch(self, request: bytes, context: RpcContext) -> HttpBody:
        """Begins a batch. One whose file cannot be run has failed already."""
        owner = self._owner(context)
        body, ignored = read_body_of(request, encoding_of(context), self._rules)
        batch = await self._new_batch(owner, body, context)
        await context.send_initial_metadata(ignored_headers(ignored))
        return _json(show_batch(await self._store.batches(Batches.get, owner, batch.id)))

    async def _new_batch(self, owner: str, body: BatchBody, context: RpcContext) -> Batch:
        """Keeps a batch of a file, which counts as a body that arrives until it is kept."""
        file = await self._store.files(Files.get, owner, body.input_file_id)
        context.body.arrived(file.size_bytes)
        content = await self._store.files(Files.whole, owner, body.input_file_id)
        lines, problems = await self._reader.lines(content, body.endpoint)
        del content
        batch = new_batch(owner, body, problems)
        await self._runner.add(batch, [] if problems else lines)
        context.body.keep(0)
        return batch

    async def ListBatches(self, request: pb.ListBatchesRequest, context: RpcContext) -> HttpBody:
        """The caller's batches."""
        batches = await self._store.batches(Batches.listed, self._owner(context))
        return _json(show_list(batches, read_query(context), show_batch))

    async def GetBatch(self, request: pb.GetBatchRequest, context: RpcContext) -> HttpBody:
        """A batch."""
        return _json(show_batch(await self._store.batches(Batches.get, self._owner(context), request.batch_id)))

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: RpcContext) -> HttpBody:
        """Ends a batch. One that has ended stays as it is."""
        owner = self._owner(context)
        await self._runner.cancel(await self._store.batches(Batches.get, owner, request.batch_id))
        return _json(show_batch(await self._store.batches(Batches.get, owner, request.batch_id)))

    def _owner(self, context: RpcContext) -> str:
        """Whose files the caller sees: those of its key; without keys, all that were made without."""
        key = self._access.identify(context)
        return key.sha256 if key is not None else ""


def batch_handlers(servicer: BatchServicer) -> Mapping[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that take a body get it serialised, so that it can be read in another process."""
    serialise = HttpBody.SerializeToString
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return {
        "CreateFile": unary(servicer.CreateFile, None, serialise),
        "ListFiles": unary(servicer.ListFiles, pb.ListFilesRequest.FromString, serialise),
        "GetFile": unary(servicer.GetFile, pb.GetFileRequest.FromString, serialise),
        "DeleteFile": unary(servicer.DeleteFile, pb.DeleteFileRequest.FromString, serialise),
        "GetFileContent": stream(servicer.GetFileContent, pb.GetFileContentRequest.FromString, serialise),
        "CreateBatch": unary(servicer.CreateBatch, None, serialise),
        "ListBatches": unary(servicer.ListBatches, pb.ListBatchesRequest.FromString, serialise),
        "GetBatch": unary(servicer.GetBatch, pb.GetBatchRequest.FromString, serialise),
        "CancelBatch": unary(servicer.CancelBatch, pb.CancelBatchRequest.FromString, serialise),
    }


def _json(document: dict[str, Any]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))
