"""With mutual TLS, only processes with a valid certificate of the mesh's CA talk to each other."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh.inference.v1 import inference_pb2
from infermesh_envoy import Address, EnvoyOptions, MeshTls
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.rpc.access import mesh_access
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.identity import MeshIdentity, TlsFiles
from infermesh_runtime.rpc.server import Server
from infermesh_worker.testing.processes import simulated_worker
from tests.security.conftest import FREE, running_envoy

LOOPBACK = ("127.0.0.1", "localhost")
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
Issue = Callable[..., TlsFiles]


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def issue(ca: trustme.CA, tmp_path: Path) -> Issue:
    """Writes a certificate: for which names, until when, by which CA, and which CA its owner trusts."""

    def write(
        name: str, *hosts: str, until: datetime | None = None, by: trustme.CA = ca, trusts: trustme.CA = ca
    ) -> TlsFiles:
        begins = None if until is None else until - timedelta(days=9)
        cert = by.issue_cert(*(hosts or LOOPBACK), common_name=name, not_before=begins, not_after=until)
        files = TlsFiles(*(tmp_path / f"{name}-{part}.pem" for part in ("ca", "cert", "key")))
        trusts.cert_pem.write_to_path(files.ca)
        cert.private_key_pem.write_to_path(files.key)
        files.cert.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
        return files

    return write


def settings(files: TlsFiles) -> dict[str, Any]:
    return {"mesh_ca": str(files.ca), "mesh_cert": str(files.cert), "mesh_key": str(files.key)}


async def check(address: str, identity: MeshIdentity, options: Sequence[tuple[str, int]] = ()) -> grpc.StatusCode:
    """The code with which a probe of the server ends."""
    async with open_aio_channel(address, identity, options) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def started(files: TlsFiles) -> Server:
    """A server of the mesh on loopback."""
    identity = MeshIdentity(tls=files)
    server = Server(listen="127.0.0.1:0", drain_s=0, access=mesh_access(identity, "127.0.0.1:0", reflection=False))
    await server.start()
    return server


async def test_whose_certificates_are_accepted(issue: Issue) -> None:
    server = await started(issue("server"))
    address = f"127.0.0.1:{server.port}"
    stranger = trustme.CA()
    ok, refused = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
    assert await check(address, MeshIdentity(tls=issue("peer"))) == ok
    assert await check(address, MeshIdentity(tls=issue("expired", until=YESTERDAY))) == refused
    assert await check(address, MeshIdentity(tls=issue("foreign", by=stranger))) == refused
    assert await check(address, MeshIdentity(tls=issue("doubts", trusts=stranger))) == refused
    assert await check(address, MeshIdentity()) == refused  # in plain text
    await server.stop()


async def test_a_client_without_a_certificate_is_refused(issue: Issue, ca: trustme.CA) -> None:
    server = await started(issue("server"))
    credentials = grpc.ssl_channel_credentials(ca.cert_pem.bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await server.stop()


@pytest.mark.parametrize(
    ("hosts", "until", "name", "code"),
    [
        (LOOPBACK, None, "", grpc.StatusCode.OK),
        (("other.example",), None, "", grpc.StatusCode.UNAVAILABLE),
        (("infermesh",), None, "infermesh", grpc.StatusCode.OK),
        (LOOPBACK, None, "infermesh", grpc.StatusCode.UNAVAILABLE),
        (LOOPBACK, YESTERDAY, "", grpc.StatusCode.UNAVAILABLE),
    ],
    ids=["its host", "wrong host", "the mesh's name", "not the mesh's name", "expired"],
)
async def test_which_servers_are_called(
    issue: Issue, hosts: Sequence[str], until: datetime | None, name: str, code: grpc.StatusCode
) -> None:
    server = await started(issue("server", *hosts, until=until))
    assert await check(f"127.0.0.1:{server.port}", MeshIdentity(tls=issue("peer"), peer_name=name)) == code
    await server.stop()


async def test_a_renewed_certificate_is_used_without_a_restart(issue: Issue) -> None:
    server = await started(issue("server", until=YESTERDAY))
    address, peer = f"127.0.0.1:{server.port}", MeshIdentity(tls=issue("peer"))
    new_connection = (("grpc.use_local_subchannel_pool", 1),)
    assert await check(address, peer, new_connection) == grpc.StatusCode.UNAVAILABLE
    issue("server")  # over the old files
    assert await check(address, peer, new_connection) == grpc.StatusCode.OK
    await server.stop()


async def generate(router: RunningRouter) -> list[str | None]:
    request = inference_pb2.GenerateRequest(model="m", text="hi", stop=inference_pb2.StopConditions(max_tokens=3))
    return [event.WhichOneof("event") async for event in router.inference.Generate(request, timeout=30)]


async def test_from_envoy_to_the_worker(issue: Issue, tmp_path: Path) -> None:
    """Every hop speaks TLS; an Envoy or a router with a certificate of another CA gets nothing."""
    import httpx

    router_files, envoy, stranger = issue("router"), issue("envoy"), issue("stranger", by=trustme.CA())
    async with simulated_worker(model="m", **settings(issue("worker"))) as worker:
        async with running_router(worker, **settings(stranger), connected=False) as refused:
            (endpoint,) = await refused.endpoints_when(lambda listed: bool(listed[0].last_error))
            assert not endpoint.connected
        async with running_router(worker, **settings(router_files)) as router:
            assert (await generate(router))[-1] == "finished"
            for number, (files, status) in enumerate(((envoy, 200), (stranger, 503))):
                options = EnvoyOptions(
                    http=FREE,
                    grpc=FREE,
                    router=Address.parse(router.address),
                    mesh_tls=MeshTls(files.ca, files.cert, files.key),
                )
                async with (
                    running_envoy(options, tmp_path / f"envoy-{number}") as running,
                    httpx.AsyncClient(base_url=running.http, timeout=10) as http,
                ):
                    assert (await http.get("/health")).status_code == status


async def test_the_admin_address_accepts_certificates_instead_of_the_token(issue: Issue) -> None:
    async with running_router(admin_listen="127.0.0.1:0", **settings(issue("router"))) as router:
        assert await router.endpoints_when(lambda listed: not listed) == []
        stranger = MeshIdentity(tls=issue("stranger", by=trustme.CA()))
        assert await check(router.admin_address, stranger) == grpc.StatusCode.UNAVAILABLE
