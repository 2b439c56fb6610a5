"""Kept responses over the API: read back, listed, deleted, referred to, and only by their own key."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.openai.answers.events import EventsSink
from infermesh_router.responses.store.kept import KeptResponse
from infermesh_router.responses.store.response_store import ResponseStore
from infermesh_router.testing.dialects.openai import post
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, NotFound
from infermesh_runtime.rpc.status import from_rpc_error


async def create(router: RunningRouter, *metadata: tuple[str, str], **fields: Any) -> dict[str, Any]:
    (message,), _ = await post(router, "CreateResponse", {"model": "m", "input": "hi"} | fields, metadata)
    response: dict[str, Any] = json.loads(message.data)
    return response


async def ask(router: RunningRouter, method: str, request: object, *metadata: tuple[str, str]) -> dict[str, Any]:
    try:
        answer = await getattr(router.openai, method)(request, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    found: dict[str, Any] = json.loads(answer.data)
    return found


async def test_a_response_is_retrieved_listed_and_deleted(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    worker = await start_worker()
    router = await start_router(worker, home=str(tmp_path))
    first = await create(router)
    second = await create(router, input="more", previous_response_id=first["id"])
    assert [m.content for m in worker.requests[1].chat.messages] == ["hi", "Hello world", "more"]
    assert second["previous_response_id"] == first["id"]
    assert await ask(router, "GetResponse", pb.GetResponseRequest(response_id=second["id"])) == second
    wanted = pb.ListInputItemsRequest(response_id=second["id"])
    listed = await ask(router, "ListInputItems", wanted, ("x-infermesh-query", "order=asc&limit=2"))
    assert [item["content"][0]["text"] for item in listed["data"]] == ["hi", "Hello world"]
    assert (listed["has_more"], listed["last_id"]) == (True, first["output"][0]["id"])
    with pytest.raises(InvalidArgument, match="background"):
        await ask(router, "CancelResponse", pb.CancelResponseRequest(response_id=second["id"]))
    deleted = await ask(router, "DeleteResponse", pb.DeleteResponseRequest(response_id=first["id"]))
    assert deleted == {"id": first["id"], "object": "response", "deleted": True}
    with pytest.raises(NotFound):
        await create(router, previous_response_id=second["id"])


async def test_a_stream_is_kept_before_its_end_is_told(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    put, end = ResponseStore.put, EventsSink.end

    async def note_put(self: ResponseStore, response: KeptResponse) -> None:
        await put(self, response)
        order.append("kept")

    async def note_end(self: EventsSink) -> None:
        order.append("told")
        await end(self)

    monkeypatch.setattr(ResponseStore, "put", note_put)
    monkeypatch.setattr(EventsSink, "end", note_end)
    router = await start_router(await start_worker(), home=str(tmp_path))
    messages, _ = await post(router, "CreateResponse", {"model": "m", "input": "hi", "stream": True})
    assert order == ["kept", "told"]
    told = messages[-1].data.decode().split("event: response.completed\ndata: ")[1].split("\n\n")[0]
    response = json.loads(told)["response"]
    assert await ask(router, "GetResponse", pb.GetResponseRequest(response_id=response["id"])) == response


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=101", "order=up"])
async def test_bad_queries(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path, query: str) -> None:
    router = await start_router(await start_worker(), home=str(tmp_path))
    with pytest.raises(InvalidArgument) as caught:
        await ask(router, "ListInputItems", pb.ListInputItemsRequest(response_id="r"), ("x-infermesh-query", query))
    assert query.split("=", maxsplit=1)[0] in caught.value.fields


async def test_an_item_is_referred_to(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    worker = await start_worker()
    router = await start_router(worker, home=str(tmp_path))
    first = await create(router)
    items = [{"type": "item_reference", "id": first["output"][0]["id"]}, {"role": "user", "content": "why"}]
    await create(router, input=items)
    assert [(m.role, m.content) for m in worker.requests[1].chat.messages] == [
        ("assistant", "Hello world"),
        ("user", "why"),
    ]
    with pytest.raises(NotFound):
        await create(router, input=[{"type": "item_reference", "id": "msg_none"}])


async def test_a_key_reads_only_its_own(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    write_keys_of(tmp_path / "keys.json", a={}, b={})
    router = await start_router(await start_worker(), home=str(tmp_path))
    (mine,), (theirs,) = bearer("a"), bearer("b")
    response = await create(router, mine)
    wanted = pb.GetResponseRequest(response_id=response["id"])
    assert await ask(router, "GetResponse", wanted, mine) == response
    with pytest.raises(NotFound):
        await ask(router, "GetResponse", wanted, theirs)
    with pytest.raises(NotFound):
        await create(router, theirs, previous_response_id=response["id"])


async def test_without_a_store(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    assert (await create(router))["store"] is False
    for fields in ({"store": True}, {"previous_response_id": "resp_1"}):
        with pytest.raises(FailedPrecondition, match="INFERMESH_HOME"):
            await create(router, **fields)


async def test_store_false_keeps_nothing(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> None:
    router = await start_router(await start_worker(), home=str(tmp_path))
    response = await create(router, store=False)
    assert response["store"] is False
    with pytest.raises(NotFound):
        await ask(router, "GetResponse", pb.GetResponseRequest(response_id=response["id"]))
