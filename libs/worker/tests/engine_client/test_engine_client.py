"""Restarts: an engine process that is idle, cannot be built, or fails while it runs."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import Internal, Unavailable
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_client.supervisor import RestartPolicy
from infermesh_worker.engine_process.frames import StartCommand

START = StartCommand(options={}, max_sequences=4, max_batched_tokens=64, prefix_caching=True)


SIMULATED_BUILD = "infermesh_worker.testing.simulated_engine:build"
SIMULATED = {"runner": {"vocab_size": 259}, "eos": False}


RUNNER_THAT_FAILS = """
from pathlib import Path
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.simulated_engine import build_tokenizer
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner

class Broken(SimulatedRunner):
    def run(self, batch):
        if batch.token_ids[0] == 0:  # the first pass, right after the load
            return super().run(batch)
        raise RuntimeError("the device fell off the bus")

class Damaged(SimulatedRunner):
    def run(self, batch):
        logits = super().run(batch)
        logits.top_logits[:] = float("nan")
        return logits

def damaged(options):
    return BuiltModel(runner=Damaged(SimulatedOptions(vocab_size=259)), tokenizer=build_tokenizer(),
                      eos_token_ids=frozenset(), name="m", folder=Path(options["folder"]))

def build(options):
    return BuiltModel(runner=Broken(SimulatedOptions(vocab_size=259)), tokenizer=build_tokenizer(),
                       eos_token_ids=frozenset())

class DamagedLater(Damaged):
    flag = None  # a file; once it is there, the model computes NaN

    def run(self, batch):
        return super().run(batch) if self.flag.exists() else SimulatedRunner.run(self, batch)

def damaged_later(options):
    runner = DamagedLater(SimulatedOptions(vocab_size=259))
    runner.flag = Path(options["folder"]) / "damage"
    return BuiltModel(runner=runner, tokenizer=build_tokenizer(), eos_token_ids=frozenset(), name="m")

def wrong(options):
    raise FailedPrecondition("this folder has no graph")

def refuse(options):
    raise OSError("no weights here")
"""


async def test_engine_without_work_is_not_taken_for_a_hung_one() -> None:
    """It answers pings, also after it stood still for a while."""
    async with client_of(SIMULATED_BUILD, options=SIMULATED, max_silence_s=2) as client:
        await status_of(client, ServingState.READY)
        pid = client.engine_pid
        os.kill(pid, signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        continued = asyncio.Event()

        def go_on() -> None:
            os.kill(pid, signal.SIGCONT)
            continued.set()

        loop.call_later(0.5, go_on)
        await continued.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.6):
                await status_of(client, ServingState.LOADING)
        assert client.engine_pid == pid


async def test_a_client_that_leaves_aborts_each_of_its_choices() -> None:
    meter = RequestMeter()
    async with client_of(SIMULATED_BUILD, options=SIMULATED, meter=meter) as client:
        await status_of(client, ServingState.READY)
        request = GenerationRequest(request_id=client.new_request_id(), prompt_token_ids=(1, 2), seed=0, n=3)
        with client.open(request) as stream:
            await stream.read()
    assert meter.finished["cancelled"] == 3


@asynccontextmanager
async def client_of(
    build: str, options: dict[str, Any] | None = None, meter: RequestMeter | None = None, **policy: Any
) -> AsyncIterator[EngineClient]:
    start = msgspec.structs.replace(START, options=options or {})
    client = EngineClient(build, start, meter or RequestMeter(), RestartPolicy(**policy))
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


@pytest.fixture
def broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "broken_model.py").write_text(RUNNER_THAT_FAILS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "broken_model"


async def status_of(client: EngineClient, state: ServingState) -> EngineStatus:
    async with asyncio.timeout(30):
        async for status in client.status.changes():
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
async def test_model_that_cannot_be_built_fails_with_the_reason(broken_module: str, build: str, reason: str) -> None:
    async with client_of(build, first_delay_s=0.01, max_failed_loads=2) as client:
        status = await status_of(client, ServingState.FAILED)
        assert "could not be loaded (2 times in a row)" in status.message
        assert reason in status.message
        with pytest.raises(Unavailable, match="failed") as caught:
            client.require_ready()
        assert caught.value.retry_after_s == 10


async def test_model_that_can_never_be_built_fails_at_once(broken_module: str) -> None:
    async with client_of(f"{broken_module}:wrong") as client:
        status = await status_of(client, ServingState.FAILED)
        assert status.message == "the model could not be loaded: this folder has no graph"


async def test_model_that_computes_nan_is_refused_with_the_tensor_to_blame(broken_module: str, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", sound=[1.0, 2.0], damaged=[0.5, float("nan")])
    async with client_of(f"{broken_module}:damaged", options={"folder": str(tmp_path)}) as client:
        message = (await status_of(client, ServingState.FAILED)).message
    assert "model 'm' computes logits that are not finite" in message
    assert "the tensor damaged in model.safetensors holds NaN or infinity" in message


def write_safetensors(path: Path, **tensors: list[float]) -> None:
    header, data = {}, b""
    for name, values in tensors.items():
        encoded = np.array(values, np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(encoded)]}
        data += encoded
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


async def test_model_that_begins_to_compute_nan_is_taken_out_by_name(broken_module: str, tmp_path: Path) -> None:
    options = {"folder": str(tmp_path)}
    async with client_of(f"{broken_module}:damaged_later", options=options, first_delay_s=0.01) as client:
        await status_of(client, ServingState.READY)
        (tmp_path / "damage").touch()
        request = GenerationRequest(request_id=client.new_request_id(), prompt_token_ids=(1, 2), seed=0)
        with client.open(request) as stream, pytest.raises(Internal, match="'m' computes logits") as caught:
            await stream.read()
        assert caught.value.reason == "LOGITS_NOT_FINITE"
        assert (
            "restarting the engine process: model 'm' computes"
            in (await status_of(client, ServingState.LOADING)).message
        )
        assert "model 'm' computes logits that are not finite" in (await status_of(client, ServingState.FAILED)).message


async def test_failing_runner_ends_the_request_and_its_words_stay_in_the_log(
    broken_module: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(f"{broken_module}:build", first_delay_s=0.01) as client:
        await status_of(client, ServingState.READY)
        request = GenerationRequest(request_id=client.new_request_id(), prompt_token_ids=(1, 2), seed=0)
        with client.open(request) as stream, pytest.raises(Unavailable, match="an internal error ended") as caught:
            await stream.read()
        assert caught.value.reason == "ENGINE_CRASHED"
        message = (await status_of(client, ServingState.LOADING)).message
        assert message == "restarting the engine process: an internal error ended the engine process"
        await status_of(client, ServingState.READY)
    reasons = [vars(record).get("reason") for record in caplog.records]
    assert "RuntimeError: the device fell off the bus" in reasons


async def test_restart_waits_longer_after_each_failed_load() -> None:
    policy = RestartPolicy()
    assert [policy.delay_s(failures) for failures in range(5)] == [0.1, 0.1, 0.2, 0.4, 0.8]
    assert policy.delay_s(20) == 10.0
    assert [policy.gives_up(failures) for failures in (4, 5)] == [False, True]
