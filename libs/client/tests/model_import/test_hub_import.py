"""Imports from the Hub, tried against a local stand-in of its HTTP API, which huggingface_hub finds by HF_ENDPOINT."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = json.dumps({"max_position_embeddings": 128, "eos_token_id": 7}).encode()
SAFETENSORS = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4096,
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

    def __init__(self, hub: Hub, *arguments: object) -> None:
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
            body = json.dumps({"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "tags": []})
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
        begin = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or ["", 0])[1])
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


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub(models={"org/model": dict(SAFETENSORS)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    state.resume.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def start(hub: Hub, models_root: Path, tmp_path: Path):
    """Starts `infermesh models import` as a user does, with a Hub cache of the test's own."""

    def start_import(*arguments: str) -> "subprocess.Popen[str]":
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-c", NO_CONVERTERS, "models", "import", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)

    return start_import


NO_CONVERTERS = """
from infermesh_client.model_import import convert
convert.entry_points = lambda group: []
from infermesh_client.cli.app import main
main()
"""


@pytest.fixture
def run(start):
    def run_import(*arguments: str) -> tuple[int, str]:
        process = start(*arguments)
        output, _ = process.communicate(timeout=60)
        assert "Traceback" not in output
        return process.returncode, output

    return run_import


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.glob(".import-*")]


def test_takes_only_what_is_needed(hub: Hub, run, models_root: Path) -> None:
    code, output = run("org/model", "--name", "m")
    assert code == 0, output
    folder = models_root / "m"
    assert {path.name for path in folder.iterdir()} == {
        "infermesh.json",
        "config.json",
        "tokenizer.json",
        "model.safetensors",
    }
    assert (folder / "model.safetensors").read_bytes() == SAFETENSORS["model.safetensors"]
    manifest = json.loads((folder / "infermesh.json").read_text())
    assert (manifest["source"], manifest["format"]) == (f"org/model@{COMMIT}", "safetensors")
    assert not any("README" in request or "onnx" in request for request in hub.requests)


def test_gguf_by_name(hub: Hub, run, tiny_gguf: Path, models_root: Path) -> None:
    hub.models["org/ggufs"] = {"a.gguf": tiny_gguf.read_bytes(), "b.gguf": b"GGUF"}
    code, output = run("org/ggufs", "--name", "m")
    assert code == 1
    assert "a.gguf, b.gguf" in output
    code, output = run("org/ggufs:a.gguf", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "model.gguf").read_bytes() == tiny_gguf.read_bytes()


def test_openvino_repository_is_preferred(hub: Hub, run, models_root: Path) -> None:
    hub.models["org/ir"] = {**SAFETENSORS, "openvino_model.xml": b"<net/>", "openvino_model.bin": b"weights"}
    code, output = run("org/ir@main", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "openvino" / "openvino_model.bin").read_bytes() == b"weights"
    assert not (models_root / "m" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("org/missing", "does not exist, or is private"),
        ("org/model@nope", "no revision 'nope'"),
        ("org/model:other.gguf", "has no file 'other.gguf'"),
        ("org/gated", "is gated: accept its terms"),
        ("org/pickled", "pickled weights"),
        ("org/untokenized", "no tokenizer.json"),
    ],
)
def test_refusals_are_one_clear_line(source: str, message: str, hub: Hub, run, models_root: Path) -> None:
    hub.models["org/gated"] = dict(SAFETENSORS)
    hub.gated.add("org/gated")
    hub.models["org/pickled"] = {"config.json": CONFIG, "tokenizer.json": b"{}", "pytorch_model.bin": b"x"}
    hub.models["org/untokenized"] = {"config.json": CONFIG, "model.safetensors": b"x"}
    code, output = run(source, "--name", "m")
    assert code == 1
    assert message in output
    assert len([line for line in output.splitlines() if line.startswith("error:")]) == 1
    assert leftovers(models_root) == []
    assert not (models_root / "m").exists()


def test_hub_that_is_not_there(hub: Hub, run, models_root: Path) -> None:
    hub.url = "http://127.0.0.1:1"
    code, output = run("org/model", "--name", "m")
    assert code == 1
    assert "failed" in output
    assert leftovers(models_root) == []


def test_cut_connection_is_resumed(hub: Hub, run, models_root: Path) -> None:
    weights = SAFETENSORS["model.safetensors"] * 16  # more than the 10 MB that the Hub's client reads at a time
    hub.models["org/model"]["model.safetensors"] = weights
    hub.cut_after_bytes = [12_000_000]
    code, output = run("org/model", "--name", "m")
    assert code == 0, output
    assert (models_root / "m" / "model.safetensors").read_bytes() == weights
    assert any("bytes=" in request for request in hub.requests)


def test_connection_that_is_cut_again_and_again_fails_cleanly(hub: Hub, run, models_root: Path) -> None:
    hub.cut_after_bytes = [0] * 50
    code, output = run("org/model", "--name", "m")
    assert code == 1
    assert "download" in output
    assert leftovers(models_root) == []


def test_ctrl_c_leaves_nothing(hub: Hub, start, models_root: Path) -> None:
    hub.stall = True
    process = start("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert leftovers(models_root) == []
    assert not (models_root / "m").exists()


def test_killed_import_is_cleaned_up_by_the_next(hub: Hub, start, run, models_root: Path, tiny_gguf: Path) -> None:
    hub.stall = True
    process = start("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    process.kill()
    process.communicate()
    assert len(leftovers(models_root)) == 1
    assert "m" not in [path.name for path in models_root.iterdir()]
    hub.stall = False
    code, output = run("org/model", "--name", "m")
    assert code == 0, output
    assert leftovers(models_root) == []


def test_running_import_is_left_alone_by_others(hub: Hub, start, run, models_root: Path, tiny_gguf: Path) -> None:
    hub.stall = True
    process = start("org/model", "--name", "m")
    assert hub.stalled.wait(30)
    code, output = run(str(tiny_gguf), "--name", "other")
    assert code == 0, output
    assert len(leftovers(models_root)) == 1
    hub.stall = False
    hub.resume.set()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert {path.name for path in models_root.iterdir()} == {".import.lock", "m", "other"}
