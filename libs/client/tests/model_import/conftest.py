"""A local stand-in for the Hub's HTTP API, which huggingface_hub finds by HF_ENDPOINT, and imports from it."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import file_download
from typer.testing import CliRunner

from infermesh_client.cli.app import app
from infermesh_client.model_import import convert
from libs.client.tests.weights import TOKENIZER, safetensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = json.dumps({"max_position_embeddings": 128, "eos_token_id": 7}).encode()
NO_CONVERTERS = """
from infermesh_client.model_import import convert
from infermesh_client.model_import.workers import checks, provers
convert.entry_points = provers.entry_points = checks.entry_points = lambda group: []
from infermesh_client.cli.app import main
main()
"""
IR = '<net><layers><layer id="0" type="Const"><data offset="0" size="7"/></layer></layers></net>'
"""A network of one constant of seven bytes."""
SAFETENSORS = {
    "config.json": CONFIG,
    "tokenizer.json": TOKENIZER.encode(),
    "model.safetensors": safetensors(bytes(range(256)) * 4096),
    "README.md": b"not needed",
    "pytorch_model.bin": b"not needed either",
    "onnx/model.onnx": b"nor this",
}


@dataclass
class Hub:
    """What the stand-in serves, what it was asked, and how it misbehaves."""

    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    cut_after_bytes: list[int] = field(default_factory=list)
    """One for each answer with weights that is cut off; later ones are whole."""
    stall: bool = False
    """Weights stop in the middle until `resume` is set."""
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    url: str = ""


class HubHandler(BaseHTTPRequestHandler):
    """/api/models/ID/revision/REV and /ID/resolve/REV/FILE, as huggingface_hub calls them."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_arguments: object) -> None:
        pass

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._model_info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(match[1], match[2], match[3])
        else:
            self._fail(404, "EntryNotFound")

    def _model_info(self, model: str, revision: str) -> None:
        if model not in self.hub.models:
            self._fail(401, "RepoNotFound")  # as the Hub answers who is not logged in
        elif revision not in ("main", COMMIT):
            self._fail(404, "RevisionNotFound")
        else:
            files = self.hub.models[model]
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            body = json.dumps(
                {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "tags": ["license:apache-2.0"]}
            )
            self._send(200, {"Content-Type": "application/json"}, body.encode())

    def _file(self, model: str, revision: str, name: str) -> None:
        if model in self.hub.gated:
            self._fail(403, "GatedRepo")
            return
        data = self.hub.models.get(model, {}).get(name)
        if data is None or revision != COMMIT:
            self._fail(404, "EntryNotFound")
            return
        digest = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        begin = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._send(206 if begin else 200, headers, data[begin:], weights=name.endswith((".safetensors", ".gguf")))

    def _fail(self, code: int, error: str) -> None:
        message = {"GatedRepo": "Access to this model is restricted", "RepoNotFound": "Repository not found"}.get(
            error, error
        )
        self._send(code, {"X-Error-Code": error, "X-Error-Message": message}, b"{}")

    def _send(self, code: int, headers: dict[str, str], body: bytes, *, weights: bool = False) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if weights and self.hub.cut_after_bytes:
            self.wfile.write(body[: self.hub.cut_after_bytes.pop(0)])
            self.close_connection = True
            return
        if weights and self.hub.stall:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.stalled.set()
            self.hub.resume.wait(30)
            self.close_connection = True
            return
        self.wfile.write(body)


class HubServer(ThreadingHTTPServer):
    """A client that reads only the beginning of a file hangs up, which is no error."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def served(state: Hub) -> Iterator[Hub]:
    """Serves it while the block runs."""
    server = HubServer(("127.0.0.1", 0), partial(HubHandler, state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # how often it looks whether it shall stop
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    state.resume.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with served(Hub(models={"org/model": dict(SAFETENSORS)})) as state:
        yield state


StartImport = Callable[..., "subprocess.Popen[str]"]
RunImport = Callable[..., tuple[int, str]]
"""Called with the arguments of `infermesh models import`; returns the exit code and the output."""


@pytest.fixture
def start_import(hub: Hub, models_root: Path, tmp_path: Path) -> StartImport:
    """Starts `infermesh models import` as a user does, with a Hub cache of the test's own."""

    def start(*arguments: str) -> "subprocess.Popen[str]":
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-c", NO_CONVERTERS, "models", "import", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    return start


@pytest.fixture
def run_import(hub: Hub, models_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunImport:
    """Runs `infermesh models import` in this process, which saves starting one for each import."""
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # the Hub's client waits a second before each retry
    monkeypatch.setattr(file_download, "time", SimpleNamespace(**{**vars(time), "sleep": lambda _s: None}))

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        result = CliRunner().invoke(app, ["models", "import", *arguments])
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.exit_code, result.output

    return run
