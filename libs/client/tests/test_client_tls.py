"""The SDK and the command reach an endpoint over TLS, and notice a certificate that they should not trust."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme

from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_client import AsyncClient, Client
from infermesh_client.cli.connection import connect
from infermesh_client.settings import ClientSettings
from infermesh_runtime.errors import InvalidArgument, Unavailable
from libs.client.tests.conftest import RunningMesh


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return str(path)


class Healthy(inference_pb2_grpc.InferenceServiceServicer):
    """Reports that it is ready."""

    def Health(
        self, request: inference_pb2.HealthRequest, context: grpc.ServicerContext
    ) -> inference_pb2.HealthResponse:
        report = inference_pb2.HealthReport(state=inference_pb2.ENDPOINT_STATE_READY)
        return inference_pb2.HealthResponse(report=report)


@pytest.fixture(scope="module")
def port(ca: trustme.CA) -> Iterator[int]:
    cert = ca.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(Healthy(), server)
        credentials = grpc.ssl_server_credentials([(cert.private_key_pem.bytes(), chain)])
        bound = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield bound
        server.stop(None).wait()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_client(port: int, ca_file: str, host: str) -> None:
    with Client(f"grpcs://{host}:{port}", tls_ca=ca_file, timeout_s=10) as client:
        assert client.health().state == inference_pb2.ENDPOINT_STATE_READY


async def test_async_client(port: int, ca_file: str) -> None:
    async with AsyncClient(f"grpcs://localhost:{port}", tls_ca=ca_file, timeout_s=10) as client:
        assert (await client.health()).state == inference_pb2.ENDPOINT_STATE_READY


def test_command(port: int, ca_file: str, tmp_path: Path) -> None:
    with connect(f"grpcs://localhost:{port}", ClientSettings(home=tmp_path, tls_ca=ca_file), timeout_s=10) as client:
        assert client.health().state == inference_pb2.ENDPOINT_STATE_READY


def test_command_says_that_a_certificate_is_not_trusted(port: int, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    for settings in (ClientSettings(home=tmp_path), ClientSettings(home=tmp_path, tls_ca=str(tmp_path / "other.pem"))):
        with (
            pytest.raises(Unavailable, match="not trusted; INFERMESH_TLS_CA") as caught,
            connect(f"grpcs://localhost:{port}", settings, timeout_s=10) as client,
        ):
            client.health()
        assert caught.value.reason == "UNTRUSTED"


def test_a_certificate_of_another_host_is_refused(ca_file: str, ca: trustme.CA, port: int) -> None:
    with Client(f"grpcs://127.0.0.2:{port}", tls_ca=ca_file, timeout_s=10) as client, pytest.raises(Unavailable):
        client.health()


@pytest.mark.parametrize("endpoint", ["grpcs://localhost", "grpcs://:1", "grpcs://localhost:99999"])
def test_malformed_endpoint(endpoint: str) -> None:
    with pytest.raises(InvalidArgument, match="is no endpoint"):
        Client(endpoint)


def test_ca_that_is_not_there() -> None:
    with pytest.raises(InvalidArgument, match=r"'/none/ca\.pem' cannot be read"):
        Client("grpcs://localhost:1", tls_ca="/none/ca.pem")


def test_plain_text_may_have_a_scheme(mesh: RunningMesh) -> None:
    with Client(f"grpc://{mesh.address}", timeout_s=10) as client:
        assert client.health().state == inference_pb2.ENDPOINT_STATE_READY
