"""Who may call a service's listeners: by the mesh token, and with certificates of the mesh's CA.

gRPC asks for the server's certificate at each handshake, so a renewed one is used without a restart.
"""

from pathlib import Path

import grpc

from infermesh_runtime.addresses import UNIX
from infermesh_runtime.rpc.identity import MeshIdentity, TlsFiles
from infermesh_runtime.rpc.listener import ListenerAccess
from infermesh_runtime.rpc.mesh_token import require_token
from infermesh_runtime.settings import ServiceSettings


def client_access(identity: MeshIdentity, *, reflection: bool) -> ListenerAccess:
    """Access to a listener for clients: with a certificate of the mesh if TLS is on, and without the mesh token."""
    return ListenerAccess(credentials=_server_credentials(identity), reflection=reflection)


def mesh_access(identity: MeshIdentity, listen: str, *, reflection: bool) -> ListenerAccess:
    """Access to a listener for the mesh's own processes and operators. A unix socket asks for nothing."""
    if listen.startswith(UNIX):
        return ListenerAccess(reflection=reflection)
    guard = require_token(identity.token) if identity.token else None
    return ListenerAccess(guard=guard, credentials=_server_credentials(identity), reflection=reflection)


def _server_credentials(identity: MeshIdentity) -> grpc.ServerCredentials | None:
    """Credentials that ask each client for a certificate of our CA, and follow changes of the files."""
    if identity.tls is None:
        return None
    files = identity.tls
    seen = files.version()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        try:
            version = files.version()
            if version == seen:
                return None  # unchanged
            changed = _certificate(files)
        except (OSError, ValueError):
            return None  # in the middle of a renewal: the old one still serves
        seen = version
        return changed

    return grpc.dynamic_ssl_server_credentials(_certificate(files), fetch, require_client_authentication=True)


def _certificate(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    ca, cert, key = files.read()
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=ca)


def identity_of(settings: ServiceSettings) -> MeshIdentity:
    """The identity that a service's settings give it."""
    files = TlsFiles(Path(settings.mesh_ca), Path(settings.mesh_cert), Path(settings.mesh_key))
    tls = files if settings.mesh_ca else None
    return MeshIdentity(token=settings.token(), tls=tls, peer_name=settings.mesh_name)
