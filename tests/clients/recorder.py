"""A proxy between a client and the mesh that writes down the requests that the client sends.

Its files are what `infermesh doctor` replays. Bodies are kept whole but for the name of the model; of the headers only
those that a client chooses and that change an answer.
"""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from tests.clients.running import MODEL, ROOT

FOLDER = ROOT / "libs/client/src/infermesh_client/doctor/recordings"
MODEL_MARK = "{model}"
"""Stands for the name of the model in recordings."""
_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive"}
_CHUNK_BYTES = 65536
_LARGEST_BYTES = 20_000
"""Larger bodies are not recorded."""


class Recorder:
    """Listens on a port of its own; writes its file when it is left."""

    def __init__(self, client: str, target: str) -> None:
        self._client = client
        self._requests: dict[str, dict[str, Any]] = {}
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, target))
        server.daemon_threads = True
        self._server = server
        self.url = f"http://127.0.0.1:{server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        document = {"client": self._client, "requests": [self._requests[key] for key in sorted(self._requests)]}
        (FOLDER / f"{self._client}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")

    def take(self, method: str, path: str, status: int, body: bytes) -> None:
        """Keeps the request if it succeeded and is the first with these fields."""
        if status >= http.client.BAD_REQUEST or len(body) > _LARGEST_BYTES:
            return
        document = json.loads(body) if body else None
        fields = sorted(document) if isinstance(document, dict) else []
        streams = isinstance(document, dict) and document.get("stream")
        key = f"{method} {path} {','.join(fields)} {streams}"
        if isinstance(document, dict) and "model" in document:
            document["model"] = MODEL_MARK
        kept = {"method": method, "path": path.replace(MODEL, MODEL_MARK), "body": document}
        self._requests.setdefault(key, kept)


def _handler(recorder: Recorder, target: str) -> type[BaseHTTPRequestHandler]:
    where = urlsplit(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            connection = http.client.HTTPConnection(where.hostname or "", where.port)
            headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_HEADERS | {"host"}}
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                recorder.take(self.command, self.path, answer.status, body)
                self._send(answer)
            except OSError:
                self.close_connection = True
            finally:
                connection.close()

        def _send(self, answer: http.client.HTTPResponse) -> None:
            self.send_response_only(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in _HOP_HEADERS | {"content-length"}:
                    self.send_header(key, value)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while data := answer.read1(_CHUNK_BYTES):
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_DELETE = _pass_on  # noqa: N815 - the server calls these names

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
