"""What happens before and around a start: ports, the plan, the home folder, its state file, and failed workers."""

import socket
from pathlib import Path

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_client.mesh.plan import plan_mesh
from infermesh_client.mesh.ports import check_free_port, pick_free_ports
from infermesh_client.mesh.ready import _check_none_failed
from infermesh_client.mesh.start import check_startable, only_one
from infermesh_client.mesh.state import read_state
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path / "models")


def test_a_taken_port_is_named_with_its_variable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match=rf"port {port} \(INFERMESH_HTTP_PORT\) is taken"):
            check_free_port(port, "INFERMESH_HTTP_PORT")
    check_free_port(port, "INFERMESH_HTTP_PORT")


def test_one_port_for_both_listeners_is_refused() -> None:
    settings = ClientSettings(http_port=18080, grpc_port=18080)
    with pytest.raises(InvalidArgument, match="both 18080"):
        check_startable(settings, [WorkerSpec("cpu")])


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = Home.of(ClientSettings(home=tmp_path / "file"))
    with pytest.raises(FailedPrecondition, match=r"file \(INFERMESH_HOME\): Not a directory"), only_one(home):
        pass


def test_a_worker_that_failed_is_not_waited_for() -> None:
    report = inference_pb2.HealthReport(state=inference_pb2.ENDPOINT_STATE_FAILED, message="no block")
    endpoints = [admin_pb2.Endpoint(address="w:1", connected=True, report=report)]
    _check_none_failed(["w:2"], endpoints)
    with pytest.raises(FailedPrecondition, match="the worker at w:1 failed: no block"):
        _check_none_failed(["w:1"], endpoints)


def test_free_ports_differ() -> None:
    assert len(set(pick_free_ports(20))) == 20


def test_only_one_up_at_a_time(home: Home) -> None:
    with only_one(home), pytest.raises(FailedPrecondition, match="another"), only_one(home):
        pass
    with only_one(home):
        pass


def test_plan(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_WORKERS", "gpu-box:9000")
    plan = plan_mesh(ClientSettings(), home, [WorkerSpec("cpu")], "m")
    worker, router, envoy = plan.services
    assert (worker.name, router.name, envoy.name) == ("worker-cpu", "router", "envoy")
    assert router.environment["INFERMESH_WORKERS"] == f"{plan.workers[0]},gpu-box:9000"
    assert worker.environment["INFERMESH_LISTEN"] == plan.workers[0]
    assert worker.environment["INFERMESH_MODEL"] == "m"


def test_state_that_cannot_be_read_is_none(home: Home) -> None:
    assert read_state(home) is None
    home.run.mkdir(parents=True)
    (home.run / "mesh.json").write_text("{}")
    assert read_state(home) is None
