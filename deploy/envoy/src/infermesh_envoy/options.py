"""What may be set in the Envoy configuration, and its defaults; knows nothing of how it is written."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Self

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or connect. Port 0, for listening, takes any free port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `host:port` or `[v6]:port`; raises ValueError with what is wrong."""
        host, colon, port = text.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 65536):
            raise ValueError(f"expected host:port, got {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _committed_descriptors() -> Path:
    # `infermesh` is a namespace: only modules inside it say where it is
    spec = find_spec("infermesh.openai.v1.openai_pb2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("infermesh-protos is not installed")
    return Path(spec.origin).parents[2] / "descriptors.binpb"


@dataclass(frozen=True, slots=True)
class EnvoyOptions:
    """One Envoy: two listeners, one router behind them.

    http: where the REST API listens. grpc: where the native services listen. router: host name or address of the
    router, resolved again every second. admin_port: Envoy's admin page, on 127.0.0.1 always; 0 takes any free port.
    access_log: file for one JSON line per request; "" is standard output. timeout_s: longest silence on a REST request,
    before the first byte or between two, after which it ends (504 where the answer had not begun). cors_origins:
    origins a browser may call from; "*" is any. node_id: this Envoy's name in logs and statistics. max_body_bytes:
    largest request body, and largest message of an answer. max_requests: connections and requests at a time.
    max_heap_bytes: memory at which new requests are refused. descriptors, lua: files that Envoy reads at its start.
    """

    http: Address = Address("127.0.0.1", 8080)
    grpc: Address = Address("127.0.0.1", 8081)
    router: Address = Address("127.0.0.1", 8082)
    admin_port: int = 0
    access_log: str = ""
    timeout_s: float = 600.0
    cors_origins: tuple[str, ...] = ("*",)
    node_id: str = "infermesh-envoy"
    max_body_bytes: int = 64 * MEBIBYTE
    max_requests: int = 10_000
    max_heap_bytes: int = 2048 * MEBIBYTE
    descriptors: Path = field(default_factory=_committed_descriptors)
    lua: Path = field(default_factory=lambda: Path(__file__).with_name("errors.lua"))
