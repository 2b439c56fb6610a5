"""Options of the Envoy configuration, and their defaults."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on or connect to. Listening on port 0 takes any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `host:port` or `[ipv6]:port`. Raises ValueError when the text is neither."""
        host, colon, port = text.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"expected host:port with a port from 0 to 65535, got {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _committed_descriptors() -> Path:
    # `infermesh` is a namespace package: only the modules inside it have a location
    spec = find_spec("infermesh.openai.v1.openai_pb2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("infermesh-protos is not installed; run `make setup`")
    return Path(spec.origin).parents[2] / "descriptors.binpb"


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """PEM files with which both listeners speak TLS. Envoy reads them again when they are replaced by renaming."""

    cert: Path
    """The certificate chain."""
    key: Path
    """Its private key."""


@dataclass(frozen=True, slots=True)
class MeshTls:
    """PEM files for mutual TLS with the router."""

    ca: Path
    """The CA of which the router's certificate must be."""
    cert: Path
    """Envoy's own certificate chain, of the same CA."""
    key: Path
    """Its private key."""
    name: str = ""
    """Name that the router's certificate must have; "": the host by which it is called."""


@dataclass(frozen=True, slots=True)
class EnvoyOptions:
    """Options of one Envoy, which has two listeners, and a router or several behind them."""

    http: Address = Address("127.0.0.1", 8080)
    """Where the REST API listens."""
    grpc: Address = Address("127.0.0.1", 8081)
    """Where the native gRPC services listen."""
    router: Address = Address("127.0.0.1", 8082)
    """Where the router listens. A host name is resolved again every second; requests are spread over its addresses."""
    more_routers: tuple[Address, ...] = ()
    """Further routers beside it, among which requests are spread. Files and batches stay with the first one."""
    admin_port: int = 0
    """Port of Envoy's admin page on 127.0.0.1; 0 takes any free port. Any user of the machine can stop Envoy there."""
    admin_socket: Path | None = None
    """Unix socket for the admin page, which only this user can open, instead of the port."""
    access_log: str = ""
    """File for one JSON line per request; "" is standard output."""
    timeout_s: float = 600.0
    """Seconds without data, before the first byte or between two, after which a REST request ends.

    The client gets status 504 if the answer had not begun.
    """
    cors_origins: tuple[str, ...] = ()
    """Origins whose web pages may call the API; "*" allows any. Requests of other web pages get status 403."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names, without a port, by which the REST API may be called; "*" allows any, "*.svc" all that end in .svc.

    On loopback the names of loopback are always among them, and other names get status 403, because a web page can make
    its own name point to this machine. On other addresses an empty tuple allows any name.
    """
    reflection: bool = True
    """Whether gRPC clients may ask which services there are."""
    tls: ListenerTls | None = None
    """TLS of both listeners; None: plain text."""
    mesh_tls: MeshTls | None = None
    """Mutual TLS with the router; None: plain text."""
    secrets: Path = Path()
    """Folder of the files that `write_secrets` writes and Envoy watches, if there is TLS."""
    node_id: str = "infermesh-envoy"
    """Name of this Envoy in logs and statistics."""
    max_body_bytes: int = 64 * MEBIBYTE
    """Largest request body, and largest single message of an answer."""
    max_arriving_bytes: int = 512 * MEBIBYTE
    """Most bytes of bodies that have not arrived completely; a body over 64 KiB that would exceed it is refused."""
    max_client_arriving_bytes: int = 256 * MEBIBYTE
    """The same for the bodies from one address."""
    body_timeout_s: float = 60.0
    """Seconds in which a request must arrive completely, body included; then the client gets status 408."""
    max_requests: int = 10_000
    """Most connections, and most requests, at the same time."""
    max_heap_bytes: int = 2048 * MEBIBYTE
    """Size of Envoy's memory at which it refuses new requests."""
    descriptors: Path = field(default_factory=_committed_descriptors)
    """Protobuf descriptor set that Envoy reads when it starts."""
    lua: Path = field(default_factory=lambda: Path(__file__).with_name("errors.lua"))
    """Lua filter for errors that Envoy reads when it starts."""
