"""How this machine calls the REST API of its own mesh, with TLS or without."""

import ssl

from infermesh_client.mesh.state import MeshState


def rest_url(state: MeshState) -> str:
    """Base URL of the REST API, without a trailing slash."""
    return f"{'https' if state.tls_cert else 'http'}://{state.http}"


def trust(state: MeshState) -> ssl.SSLContext | bool:
    """What to trust when calling it: with TLS exactly the certificate that the mesh was started with, by any name."""
    if not state.tls_cert:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # we call it by its address
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(state.tls_cert)
    return context
