"""An imported Whisper on worker-cpu, without torch: in its own process, several sounds at a time, and its memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_manifest import read_manifest
from infermesh_runtime.tensors import Array
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_client.supervisor import RestartPolicy
from infermesh_worker.engine_client.work import Work
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.executors.wire_tensors import flatten
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker_cpu.build import build
from infermesh_worker_cpu.front import footprint
from infermesh_worker_cpu.settings import WorkerCpuSettings
from infermesh_worker_cpu.whisper.check import check
from tests.speech_models.folders import FRAMES, HIDDEN, LAYERS, POSITIONS, import_speech, sound, tiny_whisper
from tests.text_models.folders import save_tensors

in_loop = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    import_speech(tiny_whisper(home / "source", seed=8), home / "models", "tiny")
    return home / "models" / "tiny"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(folder: Path) -> AsyncIterator[EngineClient]:
    options = {"folder": str(folder), "verify": "always", "numerics": "exact", "threads": 1}
    start = StartCommand(options=options, max_sequences=1, max_batched_tokens=1, prefix_caching=False)
    policy = RestartPolicy(first_delay_s=0.01, max_silence_s=120.0)
    started = EngineClient(
        "infermesh_worker_cpu.build:build", start, RequestMeter(), policy, tensor_memory_bytes=16 << 20
    )
    await started.start()
    try:
        async with asyncio.timeout(60):
            async for status in started.status.changes():
                if status.state is ServingState.READY:
                    break
        yield started
    finally:
        await started.stop()


def work(samples: Array, **params: Any) -> Work:
    return Work(params={"temperature": 0.4, "seed": 3, **params}, tensors=[flatten("samples", samples)])


async def heard(client: EngineClient, asked: Work) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The segments, and the end."""
    segments = []
    async with client.running(asked) as call:
        while not (answer := await call.read()).last:
            segments.append(dict(answer.params["segment"]))
        return segments, dict(answer.params)


def test_the_manifest_says_what_it_is(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert (manifest.kind, manifest.format, manifest.context_length) == ("transcribe", "safetensors", POSITIONS)
    assert set(manifest.files) == {
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "model.safetensors",
    }


def test_memory_is_estimated_by_the_weights(folder: Path) -> None:
    opened, settings = ModelFolder.open(folder), WorkerCpuSettings.model_validate({})
    needed = footprint(opened, settings)
    assert needed is not None
    sounds = needed.base_bytes - (320 << 20) - int(2.8 * opened.manifest.size_bytes)
    assert sounds == 4 * 2 * (2 * LAYERS * FRAMES * HIDDEN) * 4  # four sounds, keys and values, floats
    assert needed.kv_wanted_bytes == 0


@in_loop
async def test_segments_come_as_they_are_found(client: EngineClient) -> None:
    segments, end = await heard(client, work(sound(2.3), times="words"))
    assert [segment["index"] for segment in segments] == list(range(len(segments)))
    assert len(segments) > 1
    assert end["language"] in {"en", "de", "ja"}
    assert end["duration_s"] == pytest.approx(2.3)
    words = [word for segment in segments for word in segment["words"]]
    times = [time for word in words for time in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    assert times[-1] <= 2.3


@in_loop
async def test_sounds_that_run_together_are_heard_as_alone(client: EngineClient) -> None:
    sounds = [sound(2.3, seed) for seed in range(6)]
    alone = [await heard(client, work(samples)) for samples in sounds]
    together = await asyncio.gather(*(heard(client, work(samples)) for samples in sounds))
    assert together == alone
    assert len({str(segments) for segments, _ in alone}) == 6


@in_loop
async def test_a_moved_stream_gets_the_rest(client: EngineClient) -> None:
    segments, end = await heard(client, work(sound(2.3)))
    rest, same_end = await heard(client, work(sound(2.3), delivered_segments=2))
    assert rest == segments[2:]
    assert same_end == end


@in_loop
async def test_a_file_that_is_no_sound_is_refused_and_the_process_lives(client: EngineClient) -> None:
    broken = Work(params={}, tensors=[flatten("audio", np.frombuffer(b"RIFF\xff\xff\xff\xffWAVEfmt ", np.uint8))])
    with pytest.raises(InvalidArgument, match="cannot be read"):
        await heard(client, broken)
    assert (await heard(client, work(sound(1.0))))[1]["duration_s"] == 1.0


@in_loop
async def test_a_sound_that_nobody_waits_for_is_left(client: EngineClient) -> None:
    async with client.running(work(sound(60.0))) as call:
        await call.read()
    async with asyncio.timeout(20):
        async for status in client.status.changes():
            if not status.load.running:
                break
    assert client.sequences == 0


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = tiny_whisper(tmp_path / "source")
    save_tensors(source / "model.safetensors", {"model.encoder.conv1.bias": np.zeros(3, np.float32)})
    with pytest.raises(FailedPrecondition, match=r"no tensor|do not fit"):
        check(source, progress=lambda _stage, _done: None)


def test_bad_options_do_not_reach_the_copy(tmp_path: Path) -> None:
    source = tiny_whisper(tmp_path / "source")
    with pytest.raises(InvalidArgument, match="only for models that generate text"):
        import_speech(source, tmp_path / "models", "tiny", link=True)


def test_the_worker_builds_it_by_its_kind(folder: Path) -> None:
    built = build({"folder": str(folder), "verify": "never", "numerics": "fast", "threads": 1})
    assert getattr(built, "kind", None) == "transcribe"
