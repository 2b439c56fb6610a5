"""The configuration that comes out of the options is one that Envoy takes."""

import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # types-PyYAML is not installed

from infermesh_envoy import Address, EnvoyOptions, ListenerTls, command, render
from infermesh_envoy.arguments import parse
from infermesh_envoy.local_errors import grpc_errors

CONTAINER = EnvoyOptions(
    http=Address("0.0.0.0", 8080),
    grpc=Address("::", 8081),
    router=Address("router", 8082),
    admin_port=9901,
    cors_origins=("https://a.example", "https://b.example"),
    node_id='odd "name": {}',
)


SEVERAL = EnvoyOptions(more_routers=(Address("127.0.0.1", 8092), Address("127.0.0.1", 8093)))


@pytest.mark.parametrize("options", [EnvoyOptions(), CONTAINER, SEVERAL], ids=["local", "container", "several"])
def test_envoy_accepts_it(options: EnvoyOptions, tmp_path: Path) -> None:
    config = tmp_path / "envoy.yaml"
    config.write_text(render(options))
    validate = [*command(config), "--mode", "validate"]
    done = subprocess.run(validate, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "eprecated" not in done.stderr


def test_options_are_in_it() -> None:
    config = yaml.safe_load(render(CONTAINER))
    assert config["node"]["id"] == CONTAINER.node_id
    assert config["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    where = [listener["address"]["socket_address"] for listener in config["static_resources"]["listeners"]]
    assert where == [{"address": "0.0.0.0", "port_value": 8080}, {"address": "::", "port_value": 8081}]


def test_several_routers_share_all_but_files_and_batches() -> None:
    resources = yaml.safe_load(render(SEVERAL))["static_resources"]
    endpoints = {
        cluster["name"]: [
            each["endpoint"]["address"]["socket_address"]["port_value"]
            for each in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        ]
        for cluster in resources["clusters"]
    }
    assert endpoints == {"router": [8082, 8092, 8093], "first-router": [8082]}
    assert ["health_checks" in cluster for cluster in resources["clusters"]] == [True, False]
    filters = (listener["filter_chains"][0]["filters"][0]["typed_config"] for listener in resources["listeners"])
    routes = [route for each in filters for host in each["route_config"]["virtual_hosts"] for route in host["routes"]]
    first = [route["match"]["prefix"] for route in routes if route.get("route", {}).get("cluster") == "first-router"]
    assert first == ["/infermesh.openai.v1.BatchService/"]
    alone = yaml.safe_load(render(EnvoyOptions()))["static_resources"]["clusters"]
    assert [(cluster["name"], "health_checks" in cluster) for cluster in alone] == [("router", False)]


def test_routers_behind_one_name_are_checked_and_spread_over_its_addresses() -> None:
    cluster, endless = yaml.safe_load(render(CONTAINER))["static_resources"]["clusters"]
    assert cluster["cluster_type"]["typed_config"].get("all_addresses_in_single_endpoint", False) is False
    assert "health_checks" in cluster
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 1}
    names = {"name": "endless", "load_assignment": {**cluster["load_assignment"], "cluster_name": "endless"}}
    assert endless == {**cluster, **names}  # the same routers, counted apart


def test_command_line() -> None:
    assert parse(["--router", "r:1", "--more-routers", "s:2", "t:3"]).more_routers == (Address("s", 2), Address("t", 3))
    options = parse(["--http", "[::1]:1", "--router", "router:2", "--cors-origin", "https://a", "--timeout-s", "1.5"])
    assert options == EnvoyOptions(
        http=Address("::1", 1), router=Address("router", 2), cors_origins=("https://a",), timeout_s=1.5
    )
    assert str(options.http) == "[::1]:1"


def test_other_addresses_than_loopback_need_tls(capsys: pytest.CaptureFixture[str]) -> None:
    for listener in ("--http", "--grpc"):
        with pytest.raises(SystemExit):
            parse([listener, "0.0.0.0:1"])
        assert "0.0.0.0:1 can be reached from other machines" in capsys.readouterr().err
    assert parse(["--http", "0.0.0.0:1", "--insecure"]).tls is None
    with_tls = parse(["--http", "0.0.0.0:1", "--tls-cert", "c", "--tls-key", "k"])
    assert with_tls.tls == ListenerTls(Path("c"), Path("k"))
    with pytest.raises(SystemExit):
        parse(["--mesh-ca", "ca", "--mesh-cert", "c"])
    assert "--mesh-ca, --mesh-cert, --mesh-key, or none" in capsys.readouterr().err


def test_the_admin_page_is_on_a_socket_for_this_user() -> None:
    config = yaml.safe_load(render(EnvoyOptions(admin_socket=Path("/run/admin.sock"))))
    assert config["admin"]["address"] == {"pipe": {"path": "/run/admin.sock", "mode": 0o600}}


@pytest.mark.parametrize("wrong", ["8080", "a:b", ":1", "a:65536", "a:-1", ""])
def test_wrong_address_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--http", wrong])
    assert stopped.value.code == 2
    assert "--http" in capsys.readouterr().err


def test_the_grpc_port_says_where_rest_is() -> None:
    (not_found,) = [error for error in grpc_errors(EnvoyOptions()) if error.status == 404]
    assert not_found.message.endswith("REST is on 127.0.0.1:8080")
