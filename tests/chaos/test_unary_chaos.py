"""Every Infer and Embed is answered while their workers are killed under load; what kills two is not tried on a third.

`CHAOS_KILLS=100 pytest tests/chaos/test_unary_chaos.py` kills more of them.
"""

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import numpy as np
import psutil
import pytest
import pytest_asyncio

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy, to_numpy
from infermesh_worker.testing.processes import connected
from infermesh_worker.testing.simulated_encoder import DEADLY as DEADLY_TEXT
from infermesh_worker.testing.simulated_executor import DEADLY as DEADLY_NUMBER
from tests.chaos.mesh import Mesh, Worker, running_mesh

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
CLIENTS = 6
DEADLINE_S = 60.0
TENSORS, TEXTS = "tensors", "texts"
SETTINGS: dict[str, object] = {
    "model": TENSORS,
    "sim_models": f"{TEXTS}:1MiB",
    "sim_tensor_models": TENSORS,
    "sim_embedders": TEXTS,
    "sim_batch_s": 0.15,  # a request is nearly always running, at little cost
}
APART_S = 0.4
"""Between two kills: longer than a request takes, so that it seldom meets both."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """A router and three simulated workers, each with a model of tensors and an embedder."""
    kinds = [("infermesh_worker.testing.simulated", SETTINGS)] * 3
    async with running_mesh(kinds, tmp_path_factory.mktemp("unary")) as mesh:
        await asyncio.gather(*(load_texts(worker) for worker in mesh.workers))
        await mesh.wait_until(both_ready)
        yield mesh


async def load_texts(worker: Worker) -> None:
    assert worker.process is not None
    async with connected(worker.process) as stubs:
        await stubs.load(TEXTS)


def both_ready(listed: admin_pb2.WatchEndpointsResponse) -> bool:
    """Whether every endpoint has both models ready."""
    return len(listed.endpoints) == 3 and all(
        endpoint.connected
        and endpoint.breaker != admin_pb2.BREAKER_STATE_OPEN
        and {model.name for model in endpoint.report.models if model.state == pb.ENDPOINT_STATE_READY}
        == {TENSORS, TEXTS}
        for endpoint in listed.endpoints
    )


def tensors(number: float, rows: int = 1) -> pb.InferRequest:
    x, s = np.full((rows, 4), number, np.float32), np.full(rows, b"ab", object)
    return pb.InferRequest(model=TENSORS, inputs=[from_numpy(x, name="x"), from_numpy(s, name="s")])


async def infer(stub: pb_grpc.InferenceServiceStub, number: int) -> None:
    """Asks for numbers that no other request asks for, a few of them through shared memory."""
    rows = 5000 if number % 5 == 0 else 1
    response = await stub.Infer(tensors(number, rows), timeout=DEADLINE_S)
    outputs = {tensor.name: to_numpy(tensor, field="outputs") for tensor in response.outputs}
    assert np.array_equal(outputs["y"], np.full((rows, 4), 2 * number, np.float32))
    assert outputs["t"].tolist() == [b"ba"] * rows


async def embed(stub: pb_grpc.InferenceServiceStub, number: int) -> None:
    texts = [str(number), "ab"]
    response = await stub.Embed(pb.EmbedRequest(model=TEXTS, texts=texts, normalize=False), timeout=DEADLINE_S)
    wanted = [[len(text), sum(text.encode())] for text in texts]
    assert to_numpy(response.embeddings, field="embeddings").tolist() == wanted


KINDS: tuple[Callable[[pb_grpc.InferenceServiceStub, int], Awaitable[None]], ...] = (infer, embed)


async def client(mesh: Mesh, number: int, answered: Counter[str], over: asyncio.Event) -> None:
    """Sends one request after another. Each gets its right answer."""
    stub = pb_grpc.InferenceServiceStub(mesh.channel)
    ask = KINDS[number % len(KINDS)]
    for turn in itertools.count():
        if over.is_set():
            return
        await ask(stub, 100_000 * number + turn)
        answered[ask.__name__] += 1


async def kill_two(whole: Worker, engines_of: Worker) -> None:
    """Kills a whole worker and starts it again; meanwhile kills the engine processes of another one."""
    assert whole.process is not None
    whole.signal(signal.SIGKILL)
    await asyncio.sleep(APART_S)
    for engine in engines_of.engines():
        engine.kill()
    await whole.process.wait()
    await whole.start()
    await load_texts(whole)


async def test_nothing_is_lost_while_workers_are_killed(mesh: Mesh) -> None:
    answered, over = Counter[str](), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(mesh, number, answered, over))
        for number in range(KILLS // 2):
            await kill_two(mesh.workers[number % 3], mesh.workers[(number + 1) % 3])
            await mesh.wait_until(both_ready)
        over.set()
    retried = sum("failed before its first token" in str(line.get("message")) for line in mesh.router.log)
    print(f"{KILLS} kills, {dict(answered)} answered, {retried} retried")
    assert retried >= KILLS, "the load missed the kills"
    assert len(answered) == len(KINDS)


@pytest.mark.parametrize("kind", [TENSORS, TEXTS])
async def test_what_kills_two_workers_is_not_tried_on_the_third(mesh: Mesh, kind: str) -> None:
    await mesh.wait_until(both_ready)
    stub = pb_grpc.InferenceServiceStub(mesh.channel)
    before = [worker.engines() for worker in mesh.workers]
    deadly_texts = pb.EmbedRequest(model=TEXTS, texts=[DEADLY_TEXT])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (stub.Infer(tensors(float(DEADLY_NUMBER))) if kind == TENSORS else stub.Embed(deadly_texts))
    refusal = from_rpc_error(caught.value)
    assert isinstance(refusal, FailedPrecondition), mesh.errors()
    assert refusal.reason == "POISONED_REQUEST"
    assert sorted(sum(map(is_dead, engines)) for engines in before) == [0, 1, 1]


def is_dead(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
