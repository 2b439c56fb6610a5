"""Every answer stays correct while workers under load are killed, frozen, cut off and drained in turn.

`CHAOS_S=60 pytest tests/chaos` disturbs the mesh for longer; CHAOS_SEED chooses another schedule.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_runtime.errors import ResourceExhausted, Unavailable
from infermesh_runtime.rpc.status import from_rpc_error
from tests.chaos.mesh import Mesh, Worker, all_ready

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

REAL, SIMULATED = "smollm2-135m-instruct", "simulated"
CLIENTS = 6
DEADLINE_S = 60.0
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
STOP = pb.StopConditions(max_tokens=28)
REQUESTS = {
    "greedy": pb.GenerateRequest(
        model=REAL, text="The three primary colours are", sampling=pb.SamplingParams(temperature=0), stop=STOP
    ),
    "choices": pb.GenerateRequest(model=REAL, text="Once upon a time", n=2, seed=7, stop=STOP),
    "penalised": pb.GenerateRequest(
        model=REAL,
        text="A list of animals: cat, dog,",
        seed=11,
        sampling=pb.SamplingParams(repetition_penalty=1.2, top_p=0.9),
        stop=STOP,
        logprobs=pb.LogprobsOptions(top=2),
    ),
    "schema": pb.GenerateRequest(
        model=REAL,
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Invent a person as JSON.")]),
        seed=13,
        format=pb.OutputFormat(json_schema=SCHEMA),
        stop=pb.StopConditions(max_tokens=60),
    ),
    "simulated": pb.GenerateRequest(model=SIMULATED, text="Hello", seed=3, stop=pb.StopConditions(max_tokens=40)),
}


@dataclass
class Answer:
    """What a stream delivered, for each choice."""

    texts: dict[int, str] = field(default_factory=dict)
    token_ids: dict[int, list[int]] = field(default_factory=dict)
    logprobs: dict[int, list[int]] = field(default_factory=dict)
    reasons: dict[int, int] = field(default_factory=dict)

    def take(self, event: pb.GenerateResponse) -> int:
        """Adds an event; returns how many failovers it reports."""
        if event.HasField("delta"):
            delta = event.delta
            self.texts[delta.choice] = self.texts.get(delta.choice, "") + delta.text
            self.token_ids.setdefault(delta.choice, []).extend(delta.token_ids)
            self.logprobs.setdefault(delta.choice, []).extend(entry.token_id for entry in delta.logprobs)
            return 0
        done = event.finished
        assert done.choice not in self.reasons, "a choice ended twice"
        assert done.usage.completion_tokens == len(self.token_ids[done.choice]), "a token was lost or doubled"
        self.reasons[done.choice] = done.finish_reason
        return len(done.failovers)


@dataclass
class Tally:
    """How the requests ended."""

    complete: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    failovers: int = 0


async def stream(stub: pb_grpc.InferenceServiceStub, name: str) -> AsyncGenerator[pb.GenerateResponse]:
    """Yields the events after `started`."""
    call = stub.Generate(REQUESTS[name], timeout=DEADLINE_S)
    try:
        first = await call.read()
        assert first.HasField("started"), "a stream began without `started`"
        while (event := await call.read()) is not grpc.aio.EOF:
            yield event
    finally:
        call.cancel()


async def ask(stub: pb_grpc.InferenceServiceStub, name: str, tally: Tally) -> Answer:
    """Reads a whole answer. Raises AioRpcError."""
    answer, failovers = Answer(), 0
    async for event in stream(stub, name):
        failovers = max(failovers, answer.take(event))
    assert len(answer.reasons) == (REQUESTS[name].n or 1), "a stream ended before all its choices"
    tally.failovers += failovers
    return answer


async def leave(stub: pb_grpc.InferenceServiceStub, name: str) -> None:
    """Leaves in the middle of an answer."""
    events = stream(stub, name)
    async for _ in events:
        break
    await events.aclose()


async def client(mesh: Mesh, number: int, references: dict[str, Answer], tally: Tally, over: asyncio.Event) -> None:
    """Sends one request after another. Each gets the undisturbed answer or a clear refusal."""
    stub = pb_grpc.InferenceServiceStub(mesh.channel)
    names = itertools.cycle(sorted(REQUESTS)[number % len(REQUESTS) :] + sorted(REQUESTS)[: number % len(REQUESTS)])
    for turn, name in enumerate(names):
        if over.is_set():
            return
        try:
            if turn % 7 == 6:
                await leave(stub, name)
                tally.cancelled += 1
                continue
            assert await ask(stub, name, tally) == references[name], f"{name} differs from the undisturbed answer"
            tally.complete[name] += 1
        except grpc.aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            assert isinstance(refusal, (Unavailable, ResourceExhausted)), f"{name}: {refusal!r}"
            assert refusal.reason, "a refusal without a reason"
            tally.refused[f"{name}: {refusal.reason}"] += 1


async def kill(mesh: Mesh, worker: Worker) -> None:
    await worker.kill_and_start()


async def freeze(mesh: Mesh, worker: Worker) -> None:
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(3)  # frozen for longer than the router's stall timeout
    worker.signal(signal.SIGCONT)


async def cut(mesh: Mesh, worker: Worker) -> None:
    worker.link.cut()
    await worker.link.used.wait()  # the endpoints that `all_ready` sees may be those from before the cut until then


async def drain(mesh: Mesh, worker: Worker) -> None:
    await mesh.admin.DrainEndpoint(admin_pb2.DrainEndpointRequest(address=worker.address, move_after_s=0.5))
    await mesh.admin.ResumeEndpoint(admin_pb2.ResumeEndpointRequest(address=worker.address))


DISTURBANCES: dict[str, Callable[[Mesh, Worker], Awaitable[None]]] = {
    "kill": kill,
    "freeze": freeze,
    "cut": cut,
    "drain": drain,
}


async def disturb(mesh: Mesh, rng: random.Random, duration_s: float) -> Counter[str]:
    """Disturbs one worker at a time, in an order that the seed decides; returns what was done how often."""
    done: Counter[str] = Counter()
    clock = asyncio.get_running_loop().time
    end_s = clock() + duration_s
    while clock() < end_s:
        round_ = [(name, worker) for name in DISTURBANCES for worker in mesh.workers]
        rng.shuffle(round_)
        for name, worker in round_:
            await asyncio.sleep(rng.uniform(0.05, 0.4))  # so that it hits streams at different tokens
            await DISTURBANCES[name](mesh, worker)
            done[name] += 1
            await mesh.wait_until(all_ready)
            if clock() >= end_s:
                break
    return done


def at_rest(listed: admin_pb2.WatchEndpointsResponse) -> bool:
    """Whether nothing runs or waits anywhere and no KV block is held."""
    loads = [endpoint.report.load for endpoint in listed.endpoints]
    return not listed.queues and all(
        not (endpoint.in_flight or load.running or load.waiting or load.kv_cache_usage)
        for endpoint, load in zip(listed.endpoints, loads, strict=True)
    )


async def test_nothing_is_lost_while_workers_are_killed_frozen_cut_and_drained(mesh: Mesh, chaos_s: float) -> None:
    tally, over = Tally(), asyncio.Event()
    stub = pb_grpc.InferenceServiceStub(mesh.channel)
    references = {name: await ask(stub, name, Tally()) for name in REQUESTS}
    json.loads(references["schema"].texts[0])
    before_mb = mesh.resident_mb()
    rng = random.Random(int(os.environ.get("CHAOS_SEED", "1")))
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(mesh, number, references, tally, over))
        done = await disturb(mesh, rng, chaos_s)
        over.set()
    await mesh.wait_until(at_rest)
    grown_mb = mesh.resident_mb() - before_mb
    print(f"{dict(done)} {tally} router grew by {grown_mb:.1f} MB", file=sys.stderr)
    refused_real = {name: count for name, count in tally.refused.items() if not name.startswith(SIMULATED)}
    assert not refused_real, "one worker at a time is disturbed, so another could answer"
    assert tally.complete.total() > CLIENTS
    assert tally.failovers, "no stream was moved: the load missed every disturbance"
    assert grown_mb < 30
