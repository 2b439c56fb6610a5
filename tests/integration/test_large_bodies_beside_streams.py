"""Large bodies, many of them at once and slow ones, neither take the router's memory nor stop the streams beside them.

BODIES=full sends what took the router to 4.9 GB and stopped every stream for 11 s: 1,000 connections, 16 bodies of
60 MiB, 36 uploads that stall at 59 of 60 MiB. By default it is less of the same.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import psutil
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker
from tests.integration import send_bodies

pytestmark = pytest.mark.alone

FULL = os.environ.get("BODIES") == "full"
MIB = 1 << 20
BUDGET_BYTES = 512 * MIB
SLACK_BYTES = 150 * MIB
"""What the router takes besides: its own growth, and gRPC's buffers."""
LONGER_S = 0.05 if FULL else 0.25
"""By how much the longest 1 % of the gaps may be longer than those of a stream that does not pass the router. The short
form has too few gaps for less: one pause decides."""
LONGEST_S = 2.0
"""The longest gap. It was 5 s and more when bodies were read on the event loop."""
CONNECTIONS, MESSAGES, TEXTS, STALLED = (1000, 4, 16, 36) if FULL else (50, 2, 2, 4)


@dataclass
class Gaps:
    """Times between the tokens of a stream, in seconds."""

    since: list[float] = field(default_factory=list)

    async def follow(self, address: str) -> None:
        """Reads a stream until it is cancelled."""
        async with grpc.aio.insecure_channel(address) as channel:
            stop = pb.StopConditions(max_tokens=1_000_000, ignore_eos=True)
            last_s = 0.0
            while True:
                request = pb.GenerateRequest(model="simulated", text="hi", stop=stop)
                async for _ in InferenceServiceStub(channel).Generate(request):
                    now_s = time.perf_counter()
                    if last_s:
                        self.since.append(now_s - last_s)
                    last_s = now_s
                last_s = 0.0

    def p99_s(self) -> float:
        """The 99th percentile."""
        return sorted(self.since)[len(self.since) * 99 // 100]


@asynccontextmanager
async def following(address: str) -> AsyncIterator[Gaps]:
    gaps = Gaps()
    reading = asyncio.create_task(gaps.follow(address))
    try:
        yield gaps
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def peak_bytes(pid: int) -> int:
    """The process's largest resident memory so far, since its start: the kernel keeps it."""
    status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


async def post_bodies(where: Address, kind: str, count: int) -> dict[int, int]:
    """How often each status came."""
    arguments = [send_bodies.__file__, where.host, str(where.port), kind, str(count)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return {int(status): times for status, times in json.loads(out).items()}


def made(folder: Path) -> Path:
    """The folder, after making it."""
    folder.mkdir()
    return folder


async def test_large_bodies_beside_streams(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(simulated_worker(model="simulated", sim_itl_s=0.01))
        settings = {"workers": worker, "body_memory_bytes": BUDGET_BYTES, "drain_s": 0}
        router = await WorkerProcess.start("infermesh_router", **settings)
        stack.push_async_callback(router.stop)
        address = await router.ready()
        free = Address("127.0.0.1", 0)
        options = EnvoyOptions(http=free, grpc=free, router=Address.parse(address))
        where = stack.enter_context(EnvoyProcess(options, made(tmp_path / "envoy"))).address("rest")
        impatient = replace(options, body_timeout_s=10.0 if FULL else 3.0)
        strict = stack.enter_context(EnvoyProcess(impatient, made(tmp_path / "impatient"))).address("rest")
        for _ in range(CONNECTIONS):
            _, writer = await asyncio.open_connection(where.host, where.port)
            stack.callback(writer.close)
        beside = await stack.enter_async_context(following(address))
        direct = await stack.enter_async_context(following(worker))
        before_bytes = psutil.Process(router.pid).memory_info().rss
        answers: dict[str, dict[int, int]] = {}
        for port, kinds in ((where, {"messages": MESSAGES, "text": TEXTS}), (strict, {"stalled": STALLED})):
            answered = await asyncio.gather(*(post_bodies(port, kind, count) for kind, count in kinds.items()))
            answers |= dict(zip(kinds, answered, strict=True))
        grown_bytes = await peak_bytes(router.pid) - before_bytes
    print(
        f"{answers}; router +{grown_bytes / MIB:.0f} MiB; p99 {beside.p99_s() * 1e3:.0f} ms through the router, "
        f"{direct.p99_s() * 1e3:.0f} ms without; longest {max(beside.since) * 1e3:.0f} ms"
    )
    assert set(answers["messages"]) <= {400, 429}, answers  # refused for what they are, or for the memory
    assert set(answers["text"]) <= {400, 429}, answers  # longer than the context
    assert set(answers["stalled"]) <= {408, 429}, answers
    assert grown_bytes < BUDGET_BYTES + SLACK_BYTES
    assert len(beside.since) > 300
    assert beside.p99_s() < direct.p99_s() + LONGER_S, (beside.p99_s(), direct.p99_s(), max(beside.since))
    assert max(beside.since) < max(direct.since) + LONGEST_S
