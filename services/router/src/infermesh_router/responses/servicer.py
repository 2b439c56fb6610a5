"""The calls of OpenAIService about responses: takes a body, or names a response that is kept."""

from functools import partial

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.openai.answerer import JSON, Answerer
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.reception import received
from infermesh_router.requests.query_string import read_query
from infermesh_router.responses.keeping import Keeping
from infermesh_router.responses.query import page_wanted, refuse_streaming
from infermesh_router.responses.store.response_store import ResponseStore
from infermesh_runtime.rpc.context import RpcContext

LIMITED_CALLS = ("CreateResponse",)
"""Calls that count for INFERMESH_MAX_CALLS."""


class ResponsesServicer:
    """OpenAIService, as far as it is about responses."""

    def __init__(self, answerer: Answerer, *, access: Access, keeping: Keeping, store: ResponseStore) -> None:
        self._answerer = answerer
        self._access = access
        self._keeping = keeping
        self._store = store

    async def CreateResponse(self, request: bytes, context: RpcContext) -> None:
        """Answers input items."""
        owner = self._owner(context)
        convert = partial(self._keeping.convert, owner=owner)
        async with received(self._access, context, request, convert) as got:
            del request
            await self._answerer.answer(got.asked(self._keeping.dialect(got.converted.extra, owner)))

    async def GetResponse(self, request: pb.GetResponseRequest, context: RpcContext) -> HttpBody:
        """A response that is kept."""
        owner = self._owner(context)
        refuse_streaming(read_query(context))
        return HttpBody(content_type=JSON, data=await self._store.get(owner, request.response_id))

    async def DeleteResponse(self, request: pb.DeleteResponseRequest, context: RpcContext) -> HttpBody:
        """Deletes a response that is kept."""
        await self._store.delete(self._owner(context), request.response_id)
        return _json({"id": request.response_id, "object": "response", "deleted": True})

    async def ListInputItems(self, request: pb.ListInputItemsRequest, context: RpcContext) -> HttpBody:
        """The input of a response that is kept."""
        owner, wanted = self._owner(context), page_wanted(read_query(context))
        page = await self._store.input_items(
            owner, request.response_id, after=wanted.after, limit=wanted.limit, newest_first=wanted.newest_first
        )
        first, last = (page.items[0].id, page.items[-1].id) if page.items else ("", "")
        around = orjson.dumps({"object": "list", "first_id": first, "last_id": last, "has_more": page.has_more})
        items = b",".join(item.body for item in page.items)
        return HttpBody(content_type=JSON, data=b'%b,"data":[%b]}' % (around[:-1], items))

    async def CancelResponse(self, request: pb.CancelResponseRequest, context: RpcContext) -> HttpBody:
        """Refuses, since a response that is kept has ended. Raises InvalidArgument, NotFound."""
        await self._store.get(self._owner(context), request.response_id)
        raise invalid(
            "response_id",
            "was not made with 'background', and no other can be cancelled. To stop one, close its connection",
        )

    def _owner(self, context: RpcContext) -> str:
        """Whose responses the caller sees: those that its key made; without keys, all that were made without."""
        key = self._access.identify(context)
        return key.sha256 if key is not None else ""


def responses_handlers(servicer: ResponsesServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The methods, beside those of `openai_handlers`."""
    serialise = HttpBody.SerializeToString
    unary = grpc.unary_unary_rpc_method_handler
    return {
        "CreateResponse": grpc.unary_stream_rpc_method_handler(servicer.CreateResponse, None, serialise),
        "GetResponse": unary(servicer.GetResponse, pb.GetResponseRequest.FromString, serialise),
        "DeleteResponse": unary(servicer.DeleteResponse, pb.DeleteResponseRequest.FromString, serialise),
        "ListInputItems": unary(servicer.ListInputItems, pb.ListInputItemsRequest.FromString, serialise),
        "CancelResponse": unary(servicer.CancelResponse, pb.CancelResponseRequest.FromString, serialise),
    }


def _json(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))
