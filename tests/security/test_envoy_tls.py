"""Envoy's listeners speak TLS, and use a renewed certificate without a restart."""

import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh_client import AsyncClient
from infermesh_client.cli.access.certs import run_dev_certs
from infermesh_client.mesh.rest import rest_url, trust
from infermesh_client.mesh.state import MeshState
from infermesh_envoy import ListenerTls
from tests.security.conftest import running_mesh


def trusting(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "ca.pem")


def tls(folder: Path) -> dict[str, Any]:
    return {"tls": ListenerTls(folder / "mesh.pem", folder / "mesh-key.pem")}


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """Made by `infermesh certs dev`."""
    run_dev_certs(tmp_path / "certs", ["gpu-box"])
    return tmp_path / "certs"


async def test_both_listeners_speak_tls_and_only_tls(certs: Path, tmp_path: Path) -> None:
    async with running_mesh(tmp_path, tls(certs)) as mesh:
        assert mesh.envoy.http.startswith("https://")
        async with httpx.AsyncClient(base_url=mesh.envoy.http, verify=trusting(certs)) as http:
            assert (await http.get("/health")).status_code == 200
        credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(mesh.envoy.grpc, credentials) as channel:
            probe = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert (await probe).status == health_pb2.HealthCheckResponse.SERVING
        async with AsyncClient(f"grpcs://{mesh.envoy.grpc}", tls_ca=str(certs / "ca.pem"), timeout_s=10) as sdk:
            assert (await sdk.health()).models
        async with httpx.AsyncClient(base_url=mesh.envoy.http.replace("https", "http")) as http:
            with pytest.raises(httpx.TransportError):
                await http.get("/health")


async def test_clients_notice_a_foreign_ca_and_a_wrong_host(certs: Path, tmp_path: Path) -> None:
    foreign = ssl.create_default_context()
    trustme.CA().configure_trust(foreign)
    async with running_mesh(tmp_path, tls(certs)) as mesh:
        async with httpx.AsyncClient(base_url=mesh.envoy.http, verify=foreign) as http:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await http.get("/health")
        async with httpx.AsyncClient(base_url=mesh.envoy.http, verify=trusting(certs)) as http:
            request = http.build_request("GET", "/health", extensions={"sni_hostname": "other.example"})
            with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
                await http.send(request)


async def test_a_renewed_certificate_is_served(certs: Path, tmp_path: Path) -> None:
    async with running_mesh(tmp_path, tls(certs)) as mesh:
        before = ssl.get_server_certificate((mesh.envoy.address("rest").host, mesh.envoy.address("rest").port))
        run_dev_certs(certs, ["gpu-box"])
        where = mesh.envoy.address("rest")
        renewed = (certs / "mesh.pem").read_text()
        for _ in range(200):  # new connections, until Envoy has seen the new files
            served = ssl.get_server_certificate((where.host, where.port))
            if served != before:
                break
        assert served.split() == renewed.split()[: len(served.split())]


async def test_the_command_trusts_its_own_mesh_only(certs: Path, tmp_path: Path) -> None:
    async with running_mesh(tmp_path, tls(certs)) as mesh:
        http = mesh.envoy.http.partition("//")[2]
        empty: dict[str, Any] = dict.fromkeys(("grpc", "router", "envoy_admin", "model"), "")
        state = MeshState(http=http, **empty, workers=[], metrics={}, tls_cert=str(certs / "mesh.pem"))
        async with httpx.AsyncClient(verify=trust(state)) as client:
            assert (await client.get(f"{rest_url(state)}/health")).status_code == 200
        run_dev_certs(tmp_path / "others", [])
        other = MeshState(http=http, **empty, workers=[], metrics={}, tls_cert=str(tmp_path / "others" / "mesh.pem"))
        async with httpx.AsyncClient(verify=trust(other)) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"{rest_url(other)}/health")
