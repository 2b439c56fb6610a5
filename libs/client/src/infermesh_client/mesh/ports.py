"""Finds free TCP ports on 127.0.0.1, and says which process holds a taken one."""

import errno
import random
import socket
from pathlib import Path

import psutil

from infermesh_runtime.errors import FailedPrecondition

HOST = "127.0.0.1"
_LOWEST, _TRIES = 10_000, 100
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def check_free_port(port: int, variable: str) -> None:
    """Raises FailedPrecondition when the port cannot be listened on. The error names its variable and its holder."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            taken = (
                f"is taken{_holder(port)}" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            )
            message = f"port {port} ({variable}) {taken}; choose another one with {variable}=PORT"
            raise FailedPrecondition(message, reason="PORT_TAKEN") from error


def pick_free_ports(count: int) -> list[int]:
    """Picks `count` different ports on which nothing listens now.

    The kernel gives none of them to an outgoing connection, which could take it before we listen, unless it may use
    all from _LOWEST on.
    """
    sockets = [socket.socket() for _ in range(count)]
    try:
        return [_bind(sock) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _bind(sock: socket.socket) -> int:
    allowed = range(_LOWEST, _first_outgoing())
    for port in random.sample(allowed, min(_TRIES, len(allowed))):
        try:
            sock.bind((HOST, port))
        except OSError:
            continue
        return port
    sock.bind((HOST, 0))
    return int(sock.getsockname()[1])


def _first_outgoing() -> int:
    """The lowest port that the kernel gives to outgoing connections; 0 if it does not say."""
    try:
        return int(_OUTGOING.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _holder(port: int) -> str:
    try:
        holders = {c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid}
        return "".join(f" by process {pid} ({psutil.Process(pid).name()})" for pid in sorted(holders)[:1])
    except (psutil.Error, OSError):
        return ""  # we may not look at other users' processes
