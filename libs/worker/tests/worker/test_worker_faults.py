"""What happens when a process of a worker dies, cannot start, or is told to stop."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import grpc
import msgspec
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import Code, Unavailable
from infermesh_runtime.status import from_rpc_error
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.metrics import RequestMeter
from infermesh_worker.engine_client.supervisor import RestartPolicy
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.testing.processes import simulated_worker_process

START = StartCommand(options={}, max_sequences=4, max_batched_tokens=64, prefix_caching=True)

SIMULATED = {"runner": {"vocab_size": 259}, "eos": False}

RUNNER_THAT_FAILS = """
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.simulated import build_tokenizer
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner

class Broken(SimulatedRunner):
    def run(self, batch):
        raise RuntimeError("the device fell off the bus")

def build(options):
    return BuiltModel(runner=Broken(SimulatedOptions(vocab_size=259)), tokenizer=build_tokenizer(),
                       eos_token_ids=frozenset())

def wrong(options):
    raise FailedPrecondition("this folder has no graph")

def refuse(options):
    raise OSError("no weights here")
"""


def endless(**fields):
    return pb.GenerateRequest(text="hello", stop=pb.StopConditions(max_tokens=8000), **fields)


@asynccontextmanager
async def connected(worker):
    async with grpc.aio.insecure_channel(await worker.ready()) as channel:
        yield InferenceServiceStub(channel)


async def last(call):
    """The last event of a stream that was read from before."""
    event = None
    while (read := await call.read()) is not grpc.aio.EOF:
        event = read
    return event


async def wait_gone(pid):
    """Returns when the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), 20)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def reach(stub, state):
    watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
    async for response in watch:
        if response.report.state == state:
            watch.cancel()
            return response.report
    raise AssertionError("the health stream ended")


async def test_killed_engine_ends_streams_and_comes_back():
    async with simulated_worker_process(sim_itl_s=0.001) as worker, connected(worker) as stub:
        calls = [stub.Generate(endless()) for _ in range(3)]
        for call in calls:
            await call.read()
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGKILL)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await last(call)
            error = from_rpc_error(caught.value)
            assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_CRASHED")
            assert "killed by SIGKILL" in error.message
            assert error.retry_after_s
        await reach(stub, pb.ENDPOINT_STATE_READY)
        assert (await stub.Generate(endless(), timeout=30).read()).HasField("started")


async def test_engine_that_hangs_is_killed_and_comes_back():
    async with simulated_worker_process(sim_itl_s=0.001, engine_timeout_s=1) as worker, connected(worker) as stub:
        calls = [stub.Generate(endless(), timeout=60) for _ in range(2)]
        for call in calls:
            await call.read()
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGSTOP)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await last(call)
            error = from_rpc_error(caught.value)
            assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_CRASHED")
            assert "said nothing for 1 s" in error.message
        await reach(stub, pb.ENDPOINT_STATE_READY)
        assert (await stub.Generate(endless(), timeout=30).read()).HasField("started")


async def test_engine_without_work_is_not_taken_for_a_hung_one():
    """It answers pings, also after it stood still for a while."""
    async with front_of("infermesh_worker.testing.simulated:build", options=SIMULATED, max_silence_s=1) as front:
        await status_of(front, ServingState.READY)
        pid = front.engine_pid
        os.kill(pid, signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        continued = asyncio.Event()
        loop.call_later(0.5, lambda: (os.kill(pid, signal.SIGCONT), continued.set()))
        await continued.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.6):
                await status_of(front, ServingState.LOADING)
        assert front.engine_pid == pid


async def test_health_says_loading_and_why_while_the_engine_restarts():
    async with simulated_worker_process() as worker, connected(worker) as stub:
        watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
        assert (await watch.read()).report.state == pb.ENDPOINT_STATE_READY
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGKILL)
        report = (await watch.read()).report
        assert report.state == pb.ENDPOINT_STATE_LOADING
        assert "killed by SIGKILL" in report.message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(endless()).read()
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason, error.retry_after_s) == (Code.UNAVAILABLE, "WORKER_LOADING", 1)
        while report.state != pb.ENDPOINT_STATE_READY:
            report = (await watch.read()).report
        watch.cancel()


async def test_killed_front_takes_the_engine_with_it():
    async with simulated_worker_process() as worker:
        await worker.ready()
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        worker.process.kill()
        await wait_gone(engine_pid)
        assert await worker.wait() == -signal.SIGKILL


async def test_sigterm_lets_running_streams_finish():
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=100)))
        watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        states = [response.report.state async for response in watch]
        assert states[-1] == pb.ENDPOINT_STATE_DRAINING
        assert (await last(call)).finished.usage.completion_tokens == 100
        assert await worker.wait() == 0
        await wait_gone(engine_pid)


async def test_new_requests_are_refused_while_draining():
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=200)))
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        await worker.wait_for("draining")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(endless()).read()
        assert from_rpc_error(caught.value).reason == "WORKER_DRAINING"
        assert (await last(call)).HasField("finished")


async def test_stream_that_outlasts_the_drain_is_told():
    async with simulated_worker_process(sim_itl_s=0.01, drain_s=0.2) as worker, connected(worker) as stub:
        call = stub.Generate(endless())
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await last(call)
        assert from_rpc_error(caught.value).reason == "WORKER_DRAINING"
        assert await worker.wait() == 0


async def test_signal_to_the_whole_group_still_drains():
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=50)))
        await call.read()
        for pid in (engine_pid, worker.pid):
            os.kill(pid, signal.SIGINT)
        assert (await last(call)).HasField("finished")
        assert await worker.wait() == 0


async def test_bad_settings_stop_the_start_with_one_line():
    async with simulated_worker_process(max_sequences=9, max_batched_tokens=8) as worker:
        assert await worker.wait() == 2
        assert [line["message"] for line in worker.log] == [
            "settings: INFERMESH_MAX_SEQUENCES must not exceed INFERMESH_MAX_BATCHED_TOKENS"
        ]


@asynccontextmanager
async def front_of(build, options=None, **policy):
    front = EngineClient(
        build, msgspec.structs.replace(START, options=options or {}), RequestMeter(), RestartPolicy(**policy)
    )
    await front.start()
    try:
        yield front
    finally:
        await front.stop()


@pytest.fixture
def broken_module(tmp_path, monkeypatch):
    (tmp_path / "broken_model.py").write_text(RUNNER_THAT_FAILS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "broken_model"


async def status_of(front, state):
    async with asyncio.timeout(30):
        async for status in front.status.changes():
            if status.state is state:
                return status
    raise AssertionError("the status ended")


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        ("broken_model:refuse", "OSError: no weights here"),
        ("broken_model:nothing", "AttributeError"),
        ("no_such_module:build", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("no_function", "ValueError: build must be package.module:function"),
    ],
)
async def test_model_that_cannot_be_built_fails_with_the_reason(broken_module, build, reason):
    async with front_of(build, first_delay_s=0.01, max_failed_loads=2) as front:
        status = await status_of(front, ServingState.FAILED)
        assert "could not be loaded (2 times in a row)" in status.message
        assert reason in status.message
        with pytest.raises(Unavailable, match="failed") as caught:
            front.require_ready()
        assert caught.value.retry_after_s == 10


async def test_model_that_can_never_be_built_fails_at_once(broken_module):
    async with front_of(f"{broken_module}:wrong") as front:
        status = await status_of(front, ServingState.FAILED)
        assert status.message == "the model could not be loaded: this folder has no graph"


async def test_failing_runner_ends_the_request_with_its_words(broken_module):
    async with front_of(f"{broken_module}:build", first_delay_s=0.01) as front:
        await status_of(front, ServingState.READY)
        request = GenerationRequest(request_id=front.new_request_id(), prompt_token_ids=(1, 2), seed=0)
        with front.open(request) as stream, pytest.raises(Unavailable, match="the device fell off the bus") as caught:
            await stream.read()
        assert caught.value.reason == "ENGINE_CRASHED"
        message = (await status_of(front, ServingState.LOADING)).message
        assert message == "the engine is restarted after it ended: RuntimeError: the device fell off the bus"
        await status_of(front, ServingState.READY)


async def test_restart_waits_longer_after_each_failed_load():
    policy = RestartPolicy()
    assert [policy.delay_s(failures) for failures in range(5)] == [0.1, 0.1, 0.2, 0.4, 0.8]
    assert policy.delay_s(20) == 10.0
    assert [policy.gives_up(failures) for failures in (4, 5)] == [False, True]
