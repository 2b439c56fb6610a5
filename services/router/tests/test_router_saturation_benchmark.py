"""The saturation benchmark counts what arrives, and fails when something is lost or goodput falls."""

import asyncio
import importlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest

from infermesh_router.testing.router import running_router
from infermesh_runtime.rpc.interceptor import RpcInterceptor

REPOSITORY = Path(__file__).resolve().parents[3]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    return lambda name: importlib.import_module(f"benchmarks.router.saturation.{name}")


def row(offered: float, delivered: float, wrong: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"streams": 1, "offered_per_s": offered, "delivered_per_s": delivered, "wrong": list(wrong)}


@pytest.mark.parametrize(
    ("rows", "knee", "problems"),
    [
        ([row(1000, 990), row(2000, 1990)], 0, 0),
        ([row(1000, 990), row(2000, 1700), row(4000, 1650)], 2000, 0),
        ([row(1000, 990), row(2000, 1700), row(4000, 1600)], 2000, 1),
        ([row(1000, 990, ("lost",)), row(2000, 1990)], 0, 1),
    ],
)
def test_it_finds_the_knee_and_fails_where_goodput_falls(
    load: Any, rows: list[dict[str, Any]], knee: float, problems: int
) -> None:
    found, wrong = load("__main__").judge(rows)
    assert (found, len(wrong)) == (knee, problems)


@asynccontextmanager
async def router_and_worker(worker: Any) -> AsyncIterator[str]:
    """The address of a router with one worker, which has the model "offered"."""
    pace = worker.Pace()
    server = grpc.aio.server(interceptors=[RpcInterceptor(())])
    server.add_generic_rpc_handlers([worker.handlers(worker.OfferingServicer("offered", pace))])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pacing = asyncio.ensure_future(pace.run())
    try:
        async with running_router(f"127.0.0.1:{port}", frames=True) as router:
            yield router.address
    finally:
        pacing.cancel()
        await server.stop(None)


@pytest.mark.alone
async def test_it_reads_streams_through_a_router_and_sees_what_is_missing(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, worker = load("client"), load("worker")
    monkeypatch.setattr(client, "BEFORE_S", 2.0)
    monkeypatch.setattr(client, "SETTLE_S", 0.0)
    async with router_and_worker(worker) as address:
        asking = load("grpc_client").GrpcClient(address, "offered")
        run = await client.ask_all(asking, 3, 0.25, client.Processes({"router": [os.getpid()]}))
    found = client.figures(asking, run)
    assert (found.streams, found.wrong) == (3, [])
    assert found.offered_per_s == pytest.approx(3 / worker.STEP_S, rel=0.2)
    run.streams[0].pieces.pop(len(run.streams[0].pieces) // 2)
    assert client.figures(asking, run).wrong


async def test_a_refused_grpc_request_ends_the_run_with_the_reason(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, name = load("client"), "no-such-model-" + 200 * "x"  # a message whose length takes two bytes
    monkeypatch.setattr(client, "END_S", 5.0)
    async with router_and_worker(load("worker")) as address:
        asking = load("grpc_client").GrpcClient(address, name)
        with pytest.raises(RuntimeError, match=rf"grpc-status 5: .*{name}.*"):
            await client.ask_all(asking, 3, 0.25, client.Processes({"router": [os.getpid()]}))


BODY = b'{"error": {"message": "no worker is ready"}}'
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


@asynccontextmanager
async def refusing_server() -> AsyncIterator[str]:
    """The address of a server that refuses each request, and ends when its clients have closed their connections."""
    handlers = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSAL)
        await reader.read()  # keeps the connection, as Envoy does
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.gather(*filter(None, handlers))


async def test_a_refused_http_request_ends_the_run_with_the_reason(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = load("client")
    monkeypatch.setattr(client, "END_S", 5.0)
    async with refusing_server() as address:
        asking = load("http_client").HttpClient(address, "offered")
        with pytest.raises(RuntimeError, match=r"503 Service Unavailable: .*no worker is ready"):
            await client.ask_all(asking, 3, 0.25, client.Processes({"router": [os.getpid()]}))


@pytest.mark.usefixtures("load")
async def test_a_refused_request_ends_the_benchmark_of_the_overhead_too() -> None:
    http_stream = importlib.import_module("benchmarks.router.http_stream")
    async with refusing_server() as address, asyncio.timeout(5):
        asking = http_stream.HttpStreams(address, "offered")
        with pytest.raises(RuntimeError, match=r"503 Service Unavailable: .*no worker is ready"):
            await asking.ask("Count.", 2)


async def test_it_reads_a_refusal_however_it_is_cut(load: Any) -> None:
    for cut in range(1, len(REFUSAL)):
        connection = load("http_client")._Connection()
        connection.data_received(REFUSAL[:cut])
        assert not connection.arrivals.first.is_set()
        connection.data_received(REFUSAL[cut:])
        with pytest.raises(RuntimeError, match=r"503 Service Unavailable: .*no worker is ready"):
            await connection.arrivals.begun()


def chunk(*events: bytes) -> bytes:
    data = b"".join(b"data: %b\n\n" % event for event in events)
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(load: Any, *pieces: bytes) -> Any:
    arrivals: ModuleType = load("arrivals")
    made = object.__new__(arrivals.Arrivals)
    made.pieces = list(enumerate(pieces))
    return made


def test_it_reads_chunks_however_they_are_cut(load: Any) -> None:
    client = load("http_client").HttpClient("127.0.0.1:1", "offered")
    delta = b'{"choices":[{"delta":{"content":" w0 w1"},"finish_reason":null}]}'
    last = b'{"choices":[{"delta":{},"finish_reason":"length"}],"timings":{"predicted_ms":8}}'
    data = HEAD + chunk(delta) + chunk(last, b"[DONE]") + b"0\r\n\r\n"
    for cut in range(1, len(data)):
        first, end = client.read(answer(load, data[:cut], data[cut:]))
        assert (first.text, first.tokens, first.finish_reason) == (" w0 w1", 2, "")
        assert first.at_s == int(cut < len(HEAD + chunk(delta)))
        assert (end.text, end.finish_reason, end.worker_ms) == ("", "length", 8)


def test_it_refuses_answers_that_are_cut_or_are_errors(load: Any) -> None:
    client = load("http_client").HttpClient("127.0.0.1:1", "offered")
    for data, problem in (
        (HEAD.replace(b"200", b"503"), "503"),
        (HEAD + chunk(b'{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}') + b"0\r\n\r\n", "no .DONE"),
        (HEAD + chunk(b'{"error":{"message":"broken"}}'), "broken"),
    ):
        with pytest.raises(ValueError, match=problem):
            list(client.read(answer(load, data)))
