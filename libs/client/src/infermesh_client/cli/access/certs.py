"""Runs `infermesh certs dev`: makes a CA and certificates for development.

Why trustme: it makes a CA and certificates with the right extensions in one call each, on top of cryptography, so no
X.509 is written here. It is meant for development and tests, as this command is.
"""

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from infermesh_client.cli.boundary import error_console
from infermesh_runtime.errors import FailedPrecondition

MESH_NAME = "infermesh"
"""A name that every certificate has, for INFERMESH_MESH_NAME."""
_LIFETIME = timedelta(days=825)  # Apple's software accepts no longer one
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def run_dev_certs(folder: Path, hosts: Sequence[str]) -> None:
    """Writes ca.pem, ca-key.pem, mesh.pem and mesh-key.pem into the folder, and prints the settings that use them.

    A CA that is there already is used again. Raises FailedPrecondition when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_certificates(folder, hosts)
    except OSError as error:
        raise FailedPrecondition(f"cannot write certificates to {folder}: {error.strerror}") from error
    where = folder.absolute()
    print(f"INFERMESH_MESH_CA={where}/ca.pem")
    print(f"INFERMESH_MESH_CERT={where}/mesh.pem")
    print(f"INFERMESH_MESH_KEY={where}/mesh-key.pem")
    print(f"INFERMESH_TLS_CERT={where}/mesh.pem")
    print(f"INFERMESH_TLS_KEY={where}/mesh-key.pem")
    note = "For development only. Clients trust ca.pem. Run this again to renew the certificate, with every --host."
    error_console().say(note)


def _write_certificates(folder: Path, hosts: Sequence[str]) -> None:
    ca = _open_ca(folder)
    names = dict.fromkeys((MESH_NAME, *_LOOPBACK, socket.gethostname(), *hosts))
    issued = ca.issue_cert(*names, common_name=MESH_NAME, not_after=datetime.now(UTC) + _LIFETIME)
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    _replace(folder / "mesh-key.pem", issued.private_key_pem.bytes(), 0o600)
    _replace(folder / "mesh.pem", chain, 0o644)


def _open_ca(folder: Path) -> trustme.CA:
    cert, key = folder / "ca.pem", folder / "ca-key.pem"
    if cert.is_file() and key.is_file():
        return trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    ca = trustme.CA(organization_name="infermesh development")
    _replace(key, ca.private_key_pem.bytes(), 0o600)
    _replace(cert, ca.cert_pem.bytes(), 0o644)
    return ca


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Writes a file in one rename, which is what Envoy watches for. Nobody else can read it before it has its mode."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    new.chmod(mode)
    new.replace(path)
