"""Asks Envoy's admin page, on its unix socket."""

import os
import socket
from http.client import HTTPConnection
from pathlib import Path

TIMEOUT_S = 5.0


def fetch_admin(path: Path, page: str) -> bytes:
    """Gets a page ("/ready") from the admin page at the socket. Raises OSError or HTTPException if nobody answers."""
    connection = HTTPConnection("localhost", timeout=TIMEOUT_S)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(os.fspath(path))
        connection.request("GET", page)
        return connection.getresponse().read()
    finally:
        connection.close()
