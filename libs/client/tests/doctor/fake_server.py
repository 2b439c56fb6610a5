"""An HTTP server whose answers a test chooses, for `infermesh doctor`."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MESH = {"x-infermesh-endpoint": "127.0.0.1:1"}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """What the server sends."""

    status: int = 200
    content: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "application/json"
    hangs: bool = False
    """Whether the server keeps the connection open after the content, until it stops."""
    drips: bool = False
    """Whether it sends the content again and again until then."""
    pieces: Sequence[tuple[float, bytes]] = ()
    """What follows the content: seconds after what came before, and bytes."""


def refusal(message: str, param: str | None = None, status: int = 400) -> Answer:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return Answer(status, json.dumps({"error": error}).encode())


def stream(*events: dict[str, Any], end: bytes = DONE) -> Answer:
    """Server-sent events."""
    return Answer(content=b"".join(map(_event, events)) + end, kind="text/event-stream")


def timed_stream(*events: tuple[float, dict[str, Any]]) -> Answer:
    """Server-sent events, each so many seconds after the one before."""
    return Answer(
        content=b"", kind="text/event-stream", pieces=[*((s, _event(event)) for s, event in events), (0.0, DONE)]
    )


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


Rule = Callable[[dict[str, Any]], Answer]
"""Called with the body of a request; for GET with {}."""


class FakeServer(ThreadingHTTPServer):
    """Answers as its rule says; remembers bodies and headers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rule: Rule = lambda _: Answer()
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.stopping = threading.Event()
        self.scheme = "http"

    @property
    def url(self) -> str:
        """Its base URL, with /v1."""
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/v1"

    def speak_tls(self, context: ssl.SSLContext) -> None:
        """Takes https from now on; each connection's handshake is made by its own thread."""
        self.scheme = "https"
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing: clients that give up break connections."""


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """A server that runs."""
    with FakeServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.stopping.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeServer

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _answer(self, body: dict[str, Any]) -> None:
        self.server.bodies.append(body)
        self.server.paths.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        answer = self.server.rule(body)
        self.send_response(answer.status)
        self.send_header("content-type", answer.kind)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)
        self.wfile.flush()
        for wait_s, piece in answer.pieces:
            if self.server.stopping.wait(wait_s):
                return
            self.wfile.write(piece)
        while answer.drips and not self.server.stopping.wait(0.02):
            self.wfile.write(answer.content)
        if answer.hangs:
            self.server.stopping.wait(30)
