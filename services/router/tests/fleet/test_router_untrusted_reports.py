"""Whatever figures an endpoint reports, the router's own answers stay valid; lost endpoints cost little."""

import asyncio
import math

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.faults import to_error
from infermesh_router.fleet.poller import ReconnectPace
from infermesh_router.fleet.reports.report import MOST_SEQUENCES, bound_figures
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_router.testing.streams import generate, text
from infermesh_runtime.errors import Internal, InvalidArgument

UINT32, UINT64 = (1 << 32) - 1, (1 << 64) - 1
ABSURD = pb.Load(
    running=UINT32,
    waiting=UINT32,
    waiting_tokens=UINT64,
    kv_cache_usage=math.nan,
    prefill_tokens_per_s=math.inf,
    decode_tokens_per_s=-1.0,
    kv_cache_tokens=UINT64,
    preemptions=UINT64,
    cached_tokens=UINT64,
    generated_tokens=UINT64,
    max_running=UINT32,
    max_waiting=UINT32,
)


def test_every_figure_is_cut_down() -> None:
    model = pb.ModelStatus(name="m", sequences=UINT32, memory_bytes=UINT64, size_bytes=UINT64, load=ABSURD)
    report = pb.HealthReport(load=ABSURD, models=[model], available=[pb.AvailableModel(memory_bytes=UINT64)])
    report.device.memory_total_bytes = UINT64
    bound_figures(report)
    for load in (report.load, report.models[0].load):
        assert load.running == load.waiting == MOST_SEQUENCES
        assert (load.kv_cache_usage, load.prefill_tokens_per_s, load.decode_tokens_per_s) == (0, 0, 0)
    sizes = (report.models[0].memory_bytes, report.available[0].memory_bytes, report.device.memory_total_bytes)
    assert max(sizes) * 2000 < UINT64


@pytest.mark.parametrize("absurd", [math.nan, math.inf, -1.0, 1e30])
def test_absurd_progress_is_dropped(absurd: float) -> None:
    report = pb.HealthReport(models=[pb.ModelStatus(name="m", load_fraction=absurd, load_left_s=absurd)])
    bound_figures(report)
    assert report.models[0] == pb.ModelStatus(name="m")


async def test_absurd_counters_break_neither_health_nor_models(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    absurd = [await start_worker(load=ABSURD) for _ in range(2)]
    router = await start_router(*absurd, await start_worker())
    health = (await router.inference.Health(pb.HealthRequest())).report
    assert health.load.running >= 2 * MOST_SEQUENCES
    assert b'"m"' in (await router.openai.ListModels(openai_pb2.ListModelsRequest())).data
    await router.openai.GetHealth(openai_pb2.GetHealthRequest())
    await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())
    assert text(await generate(router)) == "Hello world"


@pytest.mark.parametrize(
    ("limited", "expected", "reason"),
    [("client", Internal, "MALFORMED_MESSAGE"), ("server", InvalidArgument, "REQUEST_TOO_LARGE")],
)
async def test_a_message_over_the_size_limit_is_no_lack_of_room(
    limited: str, expected: type[Exception], reason: str
) -> None:
    async def echo(request: bytes, _context: object) -> bytes:
        return request

    options = [("grpc.max_receive_message_length", 1000)]
    server = grpc.aio.server(options=options if limited == "server" else None)
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("t.Echo", {"Say": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=options if limited == "client" else None
        ) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/t.Echo/Say")(b"x" * 5000)
    finally:
        await server.stop(None)
    error = to_error(caught.value)
    assert isinstance(error, expected)
    assert getattr(error, "reason", "") == reason


def test_a_thousand_lost_endpoints_share_the_attempts() -> None:
    pace = ReconnectPace(attempts_per_s=50)
    pace.note("a", lost=True)
    assert pace.pause_s(1.0) == 1.0
    for number in range(1000):
        pace.note(str(number), lost=True)
    assert pace.pause_s(1.0) == pytest.approx(20, rel=0.01)
    for number in range(1000):
        pace.note(str(number), lost=False)
    assert pace.pause_s(0.5) == 0.5


async def test_a_lost_endpoint_that_stays_lost_is_no_change() -> None:
    changes: list[None] = []
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        clock = asyncio.get_running_loop().time
        endpoint = Endpoint("a", channel, clock=clock, notify=lambda: changes.append(None))
        for _ in range(3):
            endpoint.note_loss("refused")
        assert len(changes) == 1
        endpoint.note_loss("timed out")
        assert len(changes) == 2
