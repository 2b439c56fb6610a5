"""Parses the ways to name workers in settings: host:port and dns:///name:port."""

from dataclasses import dataclass

from infermesh_runtime.settings import split_host_port

_DNS = "dns:///"


@dataclass(frozen=True, slots=True)
class Target:
    """A worker's address, or a DNS name of which every address is a worker."""

    host: str
    port: int
    resolve: bool
    """Whether `host` is resolved again and again, and each of its addresses is an endpoint; else host:port is one."""

    @property
    def address(self) -> str:
        """host:port, IPv6 hosts in brackets."""
        return join_host_port(self.host, self.port)


def is_name(text: str) -> bool:
    """Whether the text is meant as "dns:///name:port"."""
    return text.startswith(_DNS)


def parse_target(text: str) -> Target:
    """Parses "host:port" or "dns:///name:port". Raises ValueError with the text and what is wrong."""
    try:
        host, port = split_host_port(text.removeprefix(_DNS))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    if port == 0 or "/" in host:
        raise ValueError(f"{text!r}: expected host:port or dns:///name:port with a port from 1 to 65535")
    return Target(host, port, resolve=is_name(text))


def join_host_port(host: str, port: int) -> str:
    """ "host:port", or "[host]:port" for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
