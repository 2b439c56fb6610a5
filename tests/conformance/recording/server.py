"""An HTTP server that writes down what clients send, and answers so that they go on."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.conformance.recording import answers

KEPT_HEADERS = ("anthropic-version", "anthropic-beta")
"""Headers that say how a body is to be read; others name the client, its machine and its key."""
MODEL: dict[str, Any] = {"id": "MODEL", "object": "model", "created": 1, "owned_by": "nobody"}

TITLE_PATH = "/title"
"""Takes {"client": …, "title": …, "by_default": …}, which the requests after it get."""

_WHOLE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "/v1/chat/completions": answers.chat,
    "/v1/completions": answers.completion,
    "/v1/responses": answers.response,
    "/v1/messages": answers.message,
    "/v1/messages/count_tokens": lambda _: {"input_tokens": 9},
    "/api/chat": lambda body: answers.ollama(body, is_chat=True),
    "/api/generate": lambda body: answers.ollama(body, is_chat=False),
    "/api/show": lambda _: {"capabilities": ["completion"], "details": {}, "model_info": {}},
    "/api/embed": lambda _: {"embeddings": [[0.0]]},
}
_STREAMED: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "/v1/chat/completions": answers.chat_stream,
    "/v1/completions": answers.completion_stream,
    "/v1/responses": answers.response_stream,
    "/v1/messages": answers.message_stream,
}
_GOT: dict[str, dict[str, Any]] = {
    "/v1/models": {"object": "list", "data": [MODEL]},
    "/v1/models/MODEL": MODEL,
    "/api/tags": {"models": []},
    "/api/ps": {"models": []},
    "/api/version": {"version": "0.12.0"},
}


class RecordingServer(ThreadingHTTPServer):
    """Listens on a free port of this machine; `requests` has what came from each client, as recordings have it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self._head: dict[str, Any] = {}
        self._count = 0

    @property
    def url(self) -> str:
        """Its base URL, without /v1."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, client: str, title: str, *, by_default: bool = True) -> None:
        """Says whose requests come now, what they are for, and whether the client makes them without being told to."""
        self._head = {"client": client, "title": title, "by_default": by_default}
        self._count = 0

    def keep(self, request: dict[str, Any]) -> None:
        """Appends a request under the title that was begun; a second one of a title is numbered."""
        client, title, by_default = self._head.values()
        self._count += 1
        named: dict[str, Any] = {"title": title if self._count == 1 else f"{title}, request {self._count}"}
        if not by_default:
            named["by_default"] = False
        self.requests.setdefault(client, []).append(named | request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of connections that clients drop; other errors are bugs."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def recording_server() -> Iterator[RecordingServer]:
    """A server that runs."""
    with RecordingServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RecordingServer

    def do_GET(self) -> None:
        self._keep(None)
        self._answer_json(_GOT[self._bare_path()])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self._bare_path()
        if path == TITLE_PATH:
            self.server.begin(**body)
            return self._answer_json({})
        self._keep(body)
        if body.get("stream") and path in _STREAMED:
            return self._answer("text/event-stream", _STREAMED[path](body))
        return self._answer_json(_WHOLE[path](body))

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _keep(self, body: dict[str, Any] | None) -> None:
        kept = {name: value for name in KEPT_HEADERS if (value := self.headers.get(name))}
        request: dict[str, Any] = {"method": self.command, "path": self.path}
        if kept:
            request["headers"] = kept
        if body is not None:
            request["body"] = body
        self.server.keep(request)

    def _bare_path(self) -> str:
        return self.path.partition("?")[0]

    def _answer_json(self, body: dict[str, Any]) -> None:
        self._answer("application/json", json.dumps(body).encode() + b"\n")

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
