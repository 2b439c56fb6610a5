"""What happens before and around a start: ports, the plan, the home folder, its state file, and failed workers."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.access.certs import run_dev_certs
from infermesh_client.mesh.plan import envoy_config, plan_mesh, write_envoy_config
from infermesh_client.mesh.ports import check_free_port, pick_free_ports
from infermesh_client.mesh.ready import _check_none_failed
from infermesh_client.mesh.rest import rest_url
from infermesh_client.mesh.sockets import socket_path
from infermesh_client.mesh.start import check_startable, only_one
from infermesh_client.mesh.state import read_state, write_state
from infermesh_client.mesh.token import own_token, token_file, write_token
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


def test_free_ports_are_none_that_an_outgoing_connection_may_take() -> None:
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert first < 11_000 or max(pick_free_ports(20)) < first


def test_only_one_up_at_a_time(home: Home) -> None:
    with only_one(home), pytest.raises(FailedPrecondition, match="another"), only_one(home):
        pass
    home.run.chmod(0o755)
    with only_one(home):
        assert home.run.stat().st_mode & 0o777 == 0o700


def test_plan(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_WORKERS", "gpu-box:9000")
    plan = plan_mesh(ClientSettings(), home, [WorkerSpec("cpu")], "m")
    worker, router, envoy = plan.services
    assert (worker.name, router.name, envoy.name) == ("worker-cpu", "router", "envoy")
    assert router.environment["INFERMESH_WORKERS"] == f"{plan.workers[0]},gpu-box:9000"
    assert worker.environment["INFERMESH_LISTEN"] == plan.workers[0]
    assert worker.environment["INFERMESH_MODEL"] == "m"
    assert router.environment["INFERMESH_ADMIN_LISTEN"] == plan.admins[0] == f"unix:{home.run}/admin.sock"
    assert plan.envoy_admin == f"unix:{home.run}/envoy-admin.sock"


def test_a_plan_of_several_routers(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_RESPONSES_STORE", "off")
    plan = plan_mesh(ClientSettings(), home, [WorkerSpec("cpu")], "m", routers=3)
    _, *routers, _ = plan.services
    assert [router.name for router in routers] == ["router-0", "router-1", "router-2"]
    environments = [router.environment for router in routers]
    assert [each["INFERMESH_ADMIN_LISTEN"] for each in environments] == list(plan.admins)
    assert len({each["INFERMESH_LISTEN"] for each in environments} | set(plan.metrics.values())) == 7
    for index, each in enumerate(environments):
        assert each["INFERMESH_ROUTER_COUNT"] == "3"
        assert {*each["INFERMESH_SIBLINGS"].split(","), plan.admins[index]} == set(plan.admins)
        assert each["INFERMESH_RESPONSES_STORE"] == "off"
    assert [each["INFERMESH_BATCHES_STORE"] for each in environments] == [f"{home.root}/batches.sqlite", "off", "off"]
    home.run.mkdir(parents=True, exist_ok=True)
    write_envoy_config(plan, ClientSettings(), home)
    config = envoy_config(home).read_text()
    assert all(f"port_value: {address.rpartition(':')[2]} " in config for address in plan.routers)


def test_every_process_but_envoy_reads_the_mesh_token_from_a_file(home: Home) -> None:
    """Not from its command line or the supervisor's configuration, which others may read."""
    plan = plan_mesh(ClientSettings(), home, [WorkerSpec("cpu")], "m")
    worker, router, _ = plan.services
    files = {service.environment["INFERMESH_MESH_TOKEN_FILE"] for service in (worker, router)}
    assert files == {str(token_file(home))}
    assert not any("INFERMESH_MESH_TOKEN" in service.environment for service in plan.services)


def test_each_mesh_has_a_token_of_its_own_that_only_this_user_reads(home: Home) -> None:
    tokens = set()
    for _ in range(2):
        write_token(ClientSettings(), home)
        tokens.add(own_token(home))
        assert token_file(home).stat().st_mode & 0o777 == 0o600
    assert len(tokens) == 2
    assert all(len(token) >= 32 for token in tokens)


def test_the_token_that_is_set_is_used(home: Home, tmp_path: Path) -> None:
    write_token(ClientSettings(mesh_token="ours"), home)
    assert own_token(home) == "ours"
    (tmp_path / "theirs").write_text("theirs\n")
    write_token(ClientSettings(mesh_token_file=str(tmp_path / "theirs")), home)
    assert own_token(home) == "theirs"
    with pytest.raises(InvalidArgument, match="INFERMESH_MESH_TOKEN_FILE cannot be read"):
        write_token(ClientSettings(mesh_token_file="/nowhere"), home)


def test_envoy_gets_what_is_set_for_browsers_and_certificates(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dev_certs(tmp_path / "certs", [])
    certs = {
        f"TLS_{part.upper()}": tmp_path / "certs" / name
        for part, name in (("cert", "mesh.pem"), ("key", "mesh-key.pem"))
    }
    for name, value in {
        **certs,
        "CORS_ORIGINS": "https://a.example, https://b.example",
        "ALLOWED_HOSTS": "box",
    }.items():
        monkeypatch.setenv(f"INFERMESH_{name}", str(value))
    settings = ClientSettings()
    plan = plan_mesh(settings, home, [WorkerSpec("cpu")], "m")
    home.run.mkdir(parents=True, exist_ok=True)
    write_envoy_config(plan, settings, home)
    config = envoy_config(home).read_text()
    assert all(text in config for text in ("https://a", "https://b", "box", "DownstreamTlsContext"))
    assert (home.run / "listener-certificate.json").is_file()
    state = write_state(plan, home, tls_cert=settings.tls_cert)
    assert rest_url(state).startswith("https://127.0.0.1:")


def test_half_of_a_certificate_is_refused() -> None:
    with pytest.raises(ValidationError, match="INFERMESH_TLS_CERT and INFERMESH_TLS_KEY must be set together"):
        ClientSettings(tls_cert="cert.pem")


def test_a_long_home_has_its_sockets_elsewhere(tmp_path: Path) -> None:
    long = Home(tmp_path / ("x" * 90), tmp_path)
    paths = {name: socket_path(long, name) for name in ("admin", "supervisor", "envoy-admin")}
    assert len(set(paths.values())) == 3
    assert all(len(str(path)) <= 100 for path in paths.values())


def test_state_that_cannot_be_read_is_none(home: Home) -> None:
    assert read_state(home) is None
    home.run.mkdir(parents=True)
    (home.run / "mesh.json").write_text("{}")
    assert read_state(home) is None
