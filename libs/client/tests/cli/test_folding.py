"""`infermesh status` and `infermesh models` on terminals of 80 and 120 columns: no word is broken or cut off."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client.cli.models.models_table import models_view
from infermesh_client.cli.output.folding import Cropped
from infermesh_client.cli.output.short_table import short_names, short_view
from infermesh_client.cli.output.tables import endpoints_view, mesh_view

NO_ACCELERATOR = "running on the CPU: torch found no accelerator"
PROCESSOR = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
WIDTHS = (80, 120)


def endpoint(address: str, runtime: str, message: str = "") -> admin_pb2.Endpoint:
    device = pb.Device(kind=pb.DEVICE_KIND_CPU, name=PROCESSOR, memory_total_bytes=16 * 10**9)
    device.memory_free_bytes = 3_200 * 10**6
    models = [
        pb.ModelStatus(name="smollm2-135m-instruct", state=pb.ENDPOINT_STATE_READY),
        pb.ModelStatus(name="[gpu]-qwen3-4b", load_fraction=0.62, load_left_s=4.7),
    ]
    load = pb.Load(running=2, waiting=1, kv_cache_usage=0.5, kv_cache_tokens=131072, cached_tokens=1_234_567)
    report = pb.HealthReport(
        state=pb.ENDPOINT_STATE_READY, message=message, device=device, models=models, load=load, runtime=runtime
    )
    return admin_pb2.Endpoint(
        address=address,
        connected=True,
        report=report,
        in_flight=3,
        breaker=admin_pb2.BREAKER_STATE_HALF_OPEN,
        choices={"expected_first": 1200, "prefix_cache": 34, "gpu_unavailable": 5},
        failovers=17,
        queued_ms=1234,
        overhead_ms=0.34,
        source="registered",
    )


def listing() -> admin_pb2.ListEndpointsResponse:
    workers = [
        endpoint("127.0.0.1:50051", "openvino 2026.4.1"),
        endpoint("worker-xpu-0.example.internal:50052", f"torch 2.13.0+cpu (bfloat16, sdpa, {NO_ACCELERATOR})"),
    ]
    return admin_pb2.ListEndpointsResponse(endpoints=workers)


def printed(view: RenderableType, width: int) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(view)
    text = captured.get()
    assert max(map(len, text.splitlines())) <= width
    return text


def words(text: str) -> set[str]:
    return set(re.split(r"[\s,·]+", text))


@pytest.mark.parametrize("width", WIDTHS)
def test_status_breaks_no_word_and_cuts_nothing_off(width: int) -> None:
    text = printed(mesh_view(listing()), width)
    for worker in listing().endpoints:
        assert {worker.address, "half-open", "registered", "1234", "1.2M", "17"} <= words(text)
        assert {"expected_first", "1200", "prefix_cache", "gpu_unavailable"} <= words(text)
        assert {"smollm2-135m-instruct", "[gpu]-qwen3-4b", "131k"} <= words(text)
    assert "…" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_two_workers_on_one_processor_are_told_apart(width: int) -> None:
    text = printed(mesh_view(listing()), width)
    assert text.count(NO_ACCELERATOR.rsplit(maxsplit=1)[-1]) == 1
    assert {"openvino", "2026.4.1", "torch", "2.13.0+cpu", "READY"} <= words(text)
    assert text.count("3.2 GB free") == 2
    assert f"worker-xpu-0.example.internal:50052: {NO_ACCELERATOR}" in " ".join(text.split())


def test_what_a_runtime_lacks_is_said_once_and_whole() -> None:
    lacks = "running on the CPU: torch found no accelerator, though the driver is there"
    worker = endpoint("10.0.0.1:7", f"torch 2.13.0 (bfloat16, int4 weights, {lacks})")
    text = " ".join(printed(mesh_view(admin_pb2.ListEndpointsResponse(endpoints=[worker])), 80).split())
    assert "runtime torch 2.13.0 (bfloat16, int4 weights) models" in text
    assert text.endswith(f"10.0.0.1:7: {lacks}")
    fallen = endpoint("10.0.0.1:7", "onnxruntime 1.23 on CPU (asked for CUDA, CPU)")
    text = " ".join(printed(mesh_view(admin_pb2.ListEndpointsResponse(endpoints=[fallen])), 80).split())
    assert "runtime onnxruntime 1.23 on CPU (asked for CUDA, CPU) models" in text


def many(count: int) -> admin_pb2.WatchEndpointsResponse:
    name = "worker-xpu-{}.worker-xpu.infermesh.svc.cluster.local:50052"
    runtime = f"torch 2.13.0 (bfloat16, sdpa, {NO_ACCELERATOR})"
    return admin_pb2.WatchEndpointsResponse(endpoints=[endpoint(name.format(i), runtime) for i in range(count)])


def test_many_endpoints_with_long_names_fit_a_terminal() -> None:
    text = printed(short_view(many(12)), 80)
    assert len(text.splitlines()) < 24
    assert {f"worker-xpu-{number}…" for number in range(12)} <= words(text)
    assert f"12 endpoints: {NO_ACCELERATOR}" in text


def test_short_names_keep_what_tells_addresses_apart() -> None:
    assert short_names(["a.example.internal:1", "b.example.internal:1"], 8) == ["a…", "b…"]
    assert short_names(["xpu-0.xpu.svc.local:1", "cpu-0.cpu.svc.local:1"], 8) == ["xpu-0.x…", "cpu-0.c…"]
    assert short_names(["worker.example.internal:50052", "10.0.0.1:7"], 12) == ["worke…:50052", "10.0.0.1:7"]
    assert short_names(["10.0.0.1:7"], 12) == ["10.0.0.1:7"]


def test_a_wide_terminal_has_tables() -> None:
    lines = printed(mesh_view(listing()), 200).splitlines()
    assert any({"endpoint", "runtime", "memory", "run/wait"} <= set(line.split()) for line in lines)
    assert any({"endpoint", "overhead", "cached", "moved"} <= set(line.split()) for line in lines)


def test_a_view_that_is_redrawn_says_how_much_of_it_does_not_fit() -> None:
    def shown(height: int) -> list[str]:
        console = Console(width=80, height=height)
        with console.capture() as captured:
            console.print(Cropped(Text("1\n2\n3\n4\n5"), Text("a\nb\nc\nd"), "look elsewhere"))
        return captured.get().splitlines()

    assert shown(6) == ["1", "2", "3", "4", "5"]
    assert shown(5) == ["a", "b", "c", "d"]
    assert shown(4) == ["a", "b", "2 more lines; look elsewhere"]


def test_an_endpoint_that_is_gone_says_why() -> None:
    gone = admin_pb2.Endpoint(address="10.0.0.1:7", last_error="connection refused")
    failed = endpoint("10.0.0.2:7", "openvino", "the engine process ended")
    text = printed(endpoints_view([gone, failed]), 80)
    assert "UNREACHABLE" in text
    assert "10.0.0.1:7: connection refused" in text
    assert "10.0.0.2:7: the engine process ended" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_models_break_no_word(width: int) -> None:
    names = ("smollm2-135m-instruct", "qwen2.5-coder-1.5b-instruct-q4_k_m-of-somebody")
    served = [pb.ModelStatus(name=name, state=pb.ENDPOINT_STATE_READY, context_length=131072) for name in names]
    text = printed(models_view(served, [], Path("/models"), datetime.now(UTC)), width)
    assert {*names, "READY", "131072", "generate", "/models"} <= words(text)
