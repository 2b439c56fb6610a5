"""Owns how a worker is named in the settings. Knows nothing of resolving or connecting."""

from dataclasses import dataclass

from infermesh_runtime.settings import split_host_port

_DNS = "dns:///"


@dataclass(frozen=True, slots=True)
class Target:
    """A worker's address, or a name whose every address is a worker."""

    host: str
    port: int
    resolve: bool
    """True: re-resolve `host` and take each address; False: one endpoint, host:port as it is."""

    @property
    def address(self) -> str:
        """host:port, IPv6 hosts in brackets."""
        return join_host_port(self.host, self.port)


def parse_target(text: str) -> Target:
    """Parses "host:port" or "dns:///name:port". Raises ValueError that names the text."""
    try:
        host, port = split_host_port(text.removeprefix(_DNS))
    except ValueError as error:
        raise ValueError(f"{text!r} {error}") from None
    if port == 0 or "/" in host:
        raise ValueError(f"{text!r} must be host:port or dns:///name:port with a port from 1 to 65535")
    return Target(host, port, resolve=text.startswith(_DNS))


def join_host_port(host: str, port: int) -> str:
    """ "host:port", or "[host]:port" for an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
