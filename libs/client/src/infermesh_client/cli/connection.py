"""Connects the command to an endpoint, by default the mesh on this machine, and explains when nothing answers."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infermesh_client.aio import AsyncClient
from infermesh_client.client import Client
from infermesh_client.mesh.state import MeshState, read_state
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.mesh.token import given_token, own_token
from infermesh_client.settings import ClientSettings, Home
from infermesh_client.target import GRPCS
from infermesh_runtime.addresses import UNIX, is_loopback, unix_path
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.identity import MeshIdentity, TlsFiles

_NOBODY_LISTENS = ("failed to connect", "connection refused", "Connection refused", "name resolution", "DNS resolution")

_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"


@contextmanager
def connect(endpoint: str | None, settings: ClientSettings, *, timeout_s: float | None) -> Iterator[Client]:
    """Yields a client of `endpoint`, or of the mesh on this machine. Raises Unavailable when nothing answers there."""
    address = endpoint or _own_mesh(settings)
    try:
        identity = _identity(address, settings)
        with Client(
            address, timeout_s=timeout_s, api_key=settings.api_key, identity=identity, tls_ca=settings.tls_ca
        ) as client:
            yield client
    except Unavailable as error:
        if _UNTRUSTED in error.message:
            hint = "INFERMESH_TLS_CA names the file of the CA to trust" if address.startswith(GRPCS) else "check the CA"
            raise Unavailable(f"the certificate of {address} is not trusted; {hint}", reason="UNTRUSTED") from error
        if error.reason != Unavailable.reason or not any(sign in error.message for sign in _NOBODY_LISTENS):
            raise
        hint = "check the address" if endpoint else start_hint(Home.of(settings))
        raise Unavailable(f"nothing answers at {address}; {hint}", reason="UNREACHABLE") from error


def start_hint(home: Home) -> str:
    """What to do if this user's mesh does not answer."""
    if Supervisor(home).is_running():
        return f"the mesh is still starting, or its router is down; the logs are in {home.log}"
    return "`infermesh up` starts a mesh"


def beside(client: Client) -> AsyncClient:
    """A connection of its own to the same endpoint, with the same key, identity, timeout and TLS.

    Create it inside a running event loop.
    """
    return AsyncClient(
        client.endpoint,
        timeout_s=client.timeout_s,
        api_key=client.api_key,
        identity=client.identity,
        tls_ca=client.tls_ca,
    )


def _own_mesh(settings: ClientSettings) -> str:
    """Address of this user's mesh: its admin address, unless INFERMESH_GRPC_PORT names the port of another one."""
    state = read_state(Home.of(settings))
    named = f"127.0.0.1:{settings.grpc_port}"
    if state is None or ("grpc_port" in settings.model_fields_set and state.grpc != named):
        return named
    return own_admin(state)


def own_admin(state: MeshState) -> str:
    """The admin address of the first router that listens; each of several answers for the whole mesh."""
    for admin in state.admins:
        if not admin.startswith(UNIX) or _listens(unix_path(admin)):
            return admin
    return state.admin or (f"{GRPCS}{state.grpc}" if state.tls_cert else state.grpc)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _identity(address: str, settings: ClientSettings) -> MeshIdentity:
    """What to show at the address. The token that `infermesh up` made is for this machine's mesh only."""
    if address.startswith(UNIX):
        return MeshIdentity()  # whoever can open the socket is in
    token = given_token(settings)
    if not token and _is_local(address):
        token = own_token(Home.of(settings))
    files = TlsFiles(Path(settings.mesh_ca), Path(settings.mesh_cert), Path(settings.mesh_key))
    return MeshIdentity(token=token, tls=files if settings.mesh_ca else None, peer_name=settings.mesh_name)


def _is_local(address: str) -> bool:
    try:
        return is_loopback(address.removeprefix(GRPCS))
    except ValueError:  # a name with a scheme, as dns:///mesh:8081
        return False
