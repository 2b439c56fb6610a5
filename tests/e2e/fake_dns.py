"""Names of our own for the processes of a mesh: for Python's by a patched resolver, for Envoy by a DNS server."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATCH = """
import json, os, socket, sys
sys.modules["uvloop"] = None  # it has a resolver of its own
_look_up = socket.getaddrinfo

def getaddrinfo(host, *args, **options):
    with open(os.environ["TEST_HOSTS"]) as file:
        addresses = json.load(file).get(host, [host])
    return [found for address in addresses for found in _look_up(address, *args, **options)]

socket.getaddrinfo = getaddrinfo
"""
_A = b"\x00\x01"


class Hosts:
    """Which addresses each name has now."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "hosts.json"
        self._folder = folder
        self._names: dict[str, list[str]] = {}
        (folder / "sitecustomize.py").write_text(_PATCH)
        self.set()

    def set(self, **names: Sequence[str]) -> None:
        """Gives names these addresses."""
        self._names |= {name.replace("_", "-"): list(addresses) for name, addresses in names.items()}
        written = self._folder / "new.json"
        written.write_text(json.dumps(self._names))
        written.rename(self._file)

    def addresses(self, name: str) -> list[str]:
        return self._names.get(name, [])

    @property
    def environment(self) -> Mapping[str, str]:
        """With these variables, Python's processes know the names."""
        return {"PYTHONPATH": str(self._folder), "TEST_HOSTS": str(self._file)}


@contextmanager
def dns_server(host: str, addresses: Callable[[str], list[str]]) -> Iterator[int]:
    """Answers questions for IPv4 addresses; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, 0))
        stopping = threading.Event()

        def serve() -> None:
            while True:
                query, caller = server.recvfrom(4096)
                if stopping.is_set():
                    return
                server.sendto(_answer(query, addresses), caller)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stopping.set()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", server.getsockname())
            thread.join()


def _answer(query: bytes, addresses: Callable[[str], list[str]]) -> bytes:
    """The answer in DNS's format (RFC 1035, section 4)."""
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    question = query[12 : at + 5]
    found = addresses(".".join(labels))
    records = [
        b"\xc0\x0c" + _A + b"\x00\x01" + (1).to_bytes(4) + (4).to_bytes(2) + socket.inet_aton(address)
        for address in (found if question[-4:-2] == _A else ())
    ]
    flags = b"\x85\x80" if found else b"\x85\x83"  # no error, or no such name
    counts = b"".join(count.to_bytes(2) for count in (1, len(records), 0, 0))
    return query[:2] + flags + counts + question + b"".join(records)


def asking(config: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    """Envoy's configuration, with this DNS server in place of the system's."""
    for cluster in config["static_resources"]["clusters"]:
        cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
                "resolvers": [{"socket_address": {"address": host, "port_value": port}}],
                "dns_resolver_options": {"no_default_search_domain": True},
            },
        }
    return config
