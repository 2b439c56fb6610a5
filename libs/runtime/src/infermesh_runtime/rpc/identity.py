"""What a process of a mesh shows its peers and asks of them: the mesh token, and certificates of the mesh's CA.

A client's certificate is read when its channel opens.
"""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one party: the CA it trusts, its own certificate chain and private key."""

    ca: Path
    cert: Path
    key: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """The contents of CA, chain and key. Raises OSError."""
        return self.ca.read_bytes(), self.cert.read_bytes(), self.key.read_bytes()

    def version(self) -> tuple[int, ...]:
        """Changes when one of the files does. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in (self.ca, self.cert, self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshIdentity:
    """The token and the certificates of one process."""

    token: str = ""
    """Empty: none is sent or asked for."""
    tls: TlsFiles | None = None
    """None: plain text."""
    peer_name: str = ""
    """The name that the certificates of peers must have; empty: the host by which they are called."""


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """A client's credentials. Raises OSError if a file cannot be read."""
    ca, cert, key = files.read()
    return grpc.ssl_channel_credentials(ca, key, cert)
