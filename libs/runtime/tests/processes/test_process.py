"""A service as a process: signals, exit codes and what it writes to stderr."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc

Spawn = Callable[..., Awaitable[Process]]

SETTLE_S = 10
SERVICE = """
import asyncio, os, sys
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime import logs, settings
from infermesh_runtime.processes import process
from infermesh_runtime.rpc import server

class Servicer(inference_pb2_grpc.InferenceServiceServicer):
    async def Generate(self, request, context):
        for index in range(3):
            yield pb.GenerateResponse(delta=pb.Delta(text=str(index)))
            await asyncio.sleep(float(request.text))

async def note(what):
    print(what, flush=True)

async def slow():
    await note("starting")
    if "SLOW" in os.environ:
        await asyncio.Event().wait()

async def main():
    config = settings.load_or_exit(settings.ServiceSettings)
    logs.configure(config.log_level)
    it = server.Server(listen=config.listen, drain_s=config.drain_s)
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(Servicer(), it)
    it.add_part(server.ServerPart(name="base", close=lambda: note("base closed")))
    it.add_part(server.ServerPart(name="engine", start=slow, close=lambda: note("engine closed")))
    await it.serve_until_stopped()

sys.exit(process.run(main))
"""


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Starts the service above, and kills at the end of the test what is still running."""
    script = tmp_path / "service.py"
    script.write_text(SERVICE)
    started: list[Process] = []

    async def _spawn(**environ: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), stdout=PIPE, stderr=PIPE, env={"PATH": "", **environ}
        )
        started.append(process)
        return process

    yield _spawn
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def listening_port(process: Process) -> int:
    assert process.stderr is not None
    while True:
        line = json.loads(await asyncio.wait_for(process.stderr.readline(), SETTLE_S))
        if line["message"] == "listening":
            return int(line["port"])


async def finish(process: Process) -> tuple[int | None, str, list[dict[str, Any]]]:
    out, err = await asyncio.wait_for(process.communicate(), SETTLE_S)
    return process.returncode, out.decode(), [json.loads(line) for line in err.splitlines()]


async def generate(port: int, wait_s: str) -> tuple[grpc.aio.Channel, Any]:
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(pb.GenerateRequest(text=wait_s))
    assert (await call.read()).delta.text == "0"
    return channel, call


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_with_0(spawn: Spawn, number: int) -> None:
    process = await spawn()
    channel, call = await generate(await listening_port(process), "0.2")
    process.send_signal(number)
    assert [(await call.read()).delta.text for _ in "12"] == ["1", "2"]
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await channel.close()
    code, out, lines = await finish(process)
    assert (code, out.split("\n")[1:]) == (0, ["engine closed", "base closed", ""])
    assert [line["message"] for line in lines] == ["stopping", "rpc", "stopped"]
    assert (lines[1]["code"], lines[1]["method"].rpartition("/")[2]) == ("OK", "Generate")


async def test_a_second_signal_ends_it_at_once(spawn: Spawn) -> None:
    process = await spawn()
    channel, _ = await generate(await listening_port(process), "600")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    assert json.loads(await process.stderr.readline())["message"] == "stopping"
    process.send_signal(signal.SIGTERM)
    code, out, _ = await finish(process)
    assert (code, out) == (128 + signal.SIGTERM, "starting\n")
    await channel.close()


async def test_a_signal_during_the_start_ends_it(spawn: Spawn) -> None:
    process = await spawn(SLOW="1")
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), SETTLE_S) == b"starting\n"
    process.send_signal(signal.SIGTERM)
    code, out, lines = await finish(process)
    assert (code, out, lines) == (0, "base closed\n", [])


async def test_a_taken_port_is_one_message_and_exit_code_1(spawn: Spawn) -> None:
    first = await spawn()
    port = await listening_port(first)
    code, out, lines = await finish(await spawn(INFERMESH_LISTEN=f"127.0.0.1:{port}"))
    assert (code, out.split("\n")[1:]) == (1, ["engine closed", "base closed", ""])
    assert [line["message"] for line in lines] == [f"cannot listen on 127.0.0.1:{port}: Address already in use"]


async def test_bad_settings_are_one_message_and_exit_code_2(spawn: Spawn) -> None:
    process = await spawn(INFERMESH_DRAIN_S="soon")
    out, err = await asyncio.wait_for(process.communicate(), SETTLE_S)
    assert (process.returncode, out) == (2, b"")
    assert err.count(b"\n") == 1
    assert b"INFERMESH_DRAIN_S='soon'" in err
