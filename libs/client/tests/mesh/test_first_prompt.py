"""The first question that `up` asks: a chat, or a text to continue for a base model."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from infermesh_client.mesh.first_prompt import ask

ANSWERS = {
    "/v1/chat/completions": {"choices": [{"delta": {"content": "hello"}}]},
    "/v1/completions": {"choices": [{"text": "hello"}]},
}


class Handler(BaseHTTPRequestHandler):
    asked: tuple[str, dict[str, Any]]

    def do_POST(self) -> None:
        type(self).asked = self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()
        for event in (ANSWERS[self.path], {"choices": [], "usage": {"completion_tokens": 3}}):
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("chat", "path"), [(True, "/v1/chat/completions"), (False, "/v1/completions")])
def test_a_base_model_continues_a_text(chat: bool, path: str, url: str) -> None:
    told: list[str] = []
    timing = ask(url, "m", "why", chat=chat, max_tokens=9, write=told.append)
    assert (told, timing.tokens) == (["hello"], 3)
    asked, body = Handler.asked
    assert asked == path
    assert body.get("prompt") == (None if chat else "why")
    assert ("messages" in body) is chat
