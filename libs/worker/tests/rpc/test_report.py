"""Every field of a worker's status has its place in the health report."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.hosting.load_progress import LoadProgress
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.hosting.worker_status import AvailableModel, ModelStatus, WorkerStatus
from infermesh_worker.rpc.report import to_report
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model

INFO = replace(SimulatedRunner(SimulatedOptions(vocab_size=259, context_length=99)).info, weights_bytes=77)
STARTED = datetime(2026, 1, 2, tzinfo=UTC)
USED = datetime(2026, 1, 3, tzinfo=UTC)
DEVICE = DeviceFacts(kind="xpu", name="Arc", memory_total_bytes=100, memory_free_bytes=33, runtime="torch 9")


def model(**engine: Any) -> ModelStatus:
    return ModelStatus(
        opened=opened_model(SimulatedSettings.model_validate({})),
        engine=EngineStatus(**engine),
        memory_bytes=55,
        sequences=3,
        bound=QueueBound(max_running=8, max_waiting=9),
        pinned=True,
        last_used_at=USED,
        home=True,
        kv_cache_bytes=44,
        keep_alive_s=900,
    )


def report_of(**status: Any) -> pb.HealthReport:
    return to_report(WorkerStatus(**status), version="1.2", started_at=STARTED)


def test_every_field_of_the_load_is_reported() -> None:
    names = {field.name for field in pb.Load.DESCRIPTOR.fields}
    whole = {name: number for number, name in enumerate(sorted(names - {"max_running", "max_waiting"}), 1)}
    load = report_of(load=EngineLoad(**whole), max_running=71, max_waiting=72).load
    assert {name: getattr(load, name) for name in names} == whole | {"max_running": 71, "max_waiting": 72}


def test_each_model_reports_its_own_load_and_bound() -> None:
    busy = EngineLoad(running=2, waiting=5, waiting_tokens=70, decode_tokens_per_s=40.0)
    report = report_of(models=(model(info=INFO, load=busy), model(info=INFO)), load=busy)
    first, second = (status.load for status in report.models)
    assert (first.running, first.waiting, first.waiting_tokens, first.decode_tokens_per_s) == (2, 5, 70, 40.0)
    assert (second.running, second.waiting) == (0, 0)
    assert {(load.max_running, load.max_waiting) for load in (first, second)} == {(8, 9)}


def test_a_context_is_no_longer_than_the_kv_cache() -> None:
    small = replace(INFO, context_length=8192, block_size=32, num_blocks=27)
    assert [status.context_length for status in report_of(models=(model(info=small),)).models] == [864]


def test_a_report_names_device_models_and_process() -> None:
    available = AvailableModel(
        name="other", size_bytes=1, memory_bytes=2, context_length=3, created=USED, has_chat_template=False
    )
    report = report_of(state=ServingState.READY, device=DEVICE, models=(model(info=INFO),), available=(available,))
    expected = pb.Device(kind=pb.DEVICE_KIND_XPU, name="Arc", memory_total_bytes=100, memory_free_bytes=33)
    assert report.device == expected
    assert (report.runtime, report.version, report.started_at.seconds) == ("torch 9", "1.2", 1767312000)
    (status,) = report.models
    assert (status.name, status.context_length, status.size_bytes) == ("simulated", 99, 77)
    assert (status.memory_bytes, status.sequences, status.pinned) == (55, 3, True)
    assert (status.kv_cache_bytes, status.keep_alive_s) == (44, 900)
    assert status.last_used_at.ToDatetime(UTC) == USED
    (other,) = report.available
    assert (other.name, other.size_bytes, other.memory_bytes, other.context_length) == ("other", 1, 2, 3)
    assert other.created_at.ToDatetime(UTC) == USED
    assert other.HasField("has_chat_template")
    assert not other.has_chat_template
    assert not other.HasField("defaults")


def test_a_report_tells_the_defaults_of_models() -> None:
    generation = GenerationDefaults(temperature=0.5, top_k=0, max_new_tokens=9)
    available = AvailableModel(
        name="other",
        size_bytes=1,
        memory_bytes=2,
        context_length=3,
        created=USED,
        has_chat_template=True,
        generation=generation,
    )
    (other,) = report_of(available=(available,)).available
    assert other.defaults == pb.GenerationDefaults(sampling=pb.SamplingParams(temperature=0.5, top_k=0), max_tokens=9)


def test_a_report_tells_the_progress_of_a_load() -> None:
    loading = replace(model(), progress=LoadProgress(0.25, 3.0))
    late = replace(model(), progress=LoadProgress(0.99, None))
    report = report_of(models=(loading, late, model(info=INFO)))
    assert [status.HasField("load_fraction") for status in report.models] == [True, True, False]
    assert [status.HasField("load_left_s") for status in report.models] == [True, False, False]
    assert (report.models[0].load_fraction, report.models[0].load_left_s) == (0.25, 3.0)


@pytest.mark.parametrize(
    ("state", "info", "shown"), [("draining", INFO, "READY"), ("draining", None, "LOADING"), ("failed", INFO, "FAILED")]
)
def test_the_state_of_a_model_is_loading_ready_or_failed(state: str, info: RunnerInfo | None, shown: str) -> None:
    report = report_of(state=ServingState(state), message="why", models=(model(state=ServingState(state), info=info),))
    assert report.state == pb.EndpointState.Value(f"ENDPOINT_STATE_{state.upper()}")
    assert report.models[0].state == pb.EndpointState.Value(f"ENDPOINT_STATE_{shown}")
    assert report.message == "why"
