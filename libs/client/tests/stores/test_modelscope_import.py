"""Imports from ModelScope, tried against a local stand-in of its HTTP API."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from libs.client.tests.weights import TOKENIZER, safetensors

WEIGHTS = safetensors(bytes(range(256)) * 4096)
COMMIT = "0123456789" * 4
FILES = {
    "config.json": json.dumps({"max_position_embeddings": 128, "eos_token_id": 7}).encode(),
    "tokenizer.json": TOKENIZER.encode(),
    "model.safetensors": WEIGHTS,
}


class Hub:
    """What the stand-in serves, and how it misbehaves."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.cuts = 0
        """How many more answers with weights end in the middle."""
        self.damaged = False
        self.token = ""
        self.ranges: list[str] = []
        self.latest: dict[str, str] | None = None
        """What it says of the revision's commit."""
        self.revisions = {"v1"}


class Handler(BaseHTTPRequestHandler):
    """/api/v1/models/ID/repo/files lists, /api/v1/models/ID/repo?FilePath= downloads."""

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def log_message(self, *_arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlparse(self.path)
        asked = parse_qs(url.query)
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self.send_error(403)
        elif not url.path.startswith("/api/v1/models/org/model/repo") or asked["Revision"][0] not in self.hub.revisions:
            self.send_error(404)
        elif url.path.endswith("/files"):
            listed = [
                {"Path": name, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()}
                for name, data in self.hub.files.items()
            ]
            self._send(200, json.dumps({"Data": {"Files": listed, "LatestCommitter": self.hub.latest}}).encode())
        else:
            self._file(asked["FilePath"][0])

    def _file(self, name: str) -> None:
        data = self.hub.files[name]
        if self.hub.damaged and name.endswith(".safetensors"):
            data = data[:-1] + b"?"
        begin = 0
        if wanted := self.headers.get("Range"):
            self.hub.ranges.append(wanted)
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        if self.hub.cuts and name.endswith(".safetensors"):
            self.hub.cuts -= 1
            self._send(206 if begin else 200, data[begin : begin + 100_000], length=len(data) - begin)
        else:
            self._send(206 if begin else 200, data[begin:])

    def _send(self, status: int, body: bytes, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("MODELSCOPE_API_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


VIEW = ProgressView(Console(quiet=True))


def test_a_model_at_a_revision(hub: Hub, models_root: Path) -> None:
    manifest = import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert (models_root / "m" / "model.safetensors").read_bytes() == WEIGHTS
    assert (manifest.source, manifest.revision) == ("modelscope:org/model@v1", "v1")
    assert [path.name for path in models_root.iterdir() if path.name != ".import.lock"] == ["m"]


@pytest.mark.parametrize(
    ("latest", "commit"),
    [({"Id": COMMIT, "ShortId": COMMIT[:8]}, COMMIT), ({"Id": "", "ShortId": COMMIT[:8]}, COMMIT[:8]), ({}, "v1")],
)
def test_the_commit_is_recorded_where_the_hub_tells_it(
    hub: Hub, models_root: Path, latest: dict[str, str], commit: str
) -> None:
    hub.latest = latest
    hub.revisions.add(COMMIT)
    manifest = import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert (manifest.source, manifest.revision) == (f"modelscope:org/model@{commit}", commit)


def test_a_cut_download_goes_on(hub: Hub, models_root: Path) -> None:
    hub.cuts = 2
    import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert hub.ranges == ["bytes=100000-", "bytes=200000-"]
    assert (models_root / "m" / "model.safetensors").read_bytes() == WEIGHTS


def test_the_next_import_goes_on_where_a_failed_one_ended(hub: Hub, models_root: Path) -> None:
    hub.cuts = 5
    with pytest.raises(Unavailable, match=r"downloading model\.safetensors"):
        import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert not (models_root / "m").exists()
    hub.ranges.clear()
    import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert hub.ranges == ["bytes=500000-"]
    assert not (models_root / ".downloads").exists()


def test_an_index_that_names_a_tensor_that_is_not_there(hub: Hub, models_root: Path) -> None:
    hub.files = {name: data for name, data in FILES.items() if name != "model.safetensors"}
    hub.files |= {"a.safetensors": WEIGHTS, "b.safetensors": safetensors(b"b", name="b")}
    index = {"weight_map": {"w": "a.safetensors", "gone": "b.safetensors"}}
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    with pytest.raises(InvalidArgument, match="the tensor gone, which is in none of the files"):
        import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    assert all(asked.startswith("bytes=0-") for asked in hub.ranges)


def test_damaged_weights(hub: Hub, models_root: Path) -> None:
    hub.damaged = True
    with pytest.raises(Unavailable, match="is damaged"):
        import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    hub.damaged = False
    import_model("modelscope:org/model@v1", "m", models_root, VIEW)


def test_a_private_model(hub: Hub, models_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "secret"
    with pytest.raises(FailedPrecondition, match="set MODELSCOPE_API_TOKEN"):
        import_model("modelscope:org/model@v1", "m", models_root, VIEW)
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "secret")
    import_model("modelscope:org/model@v1", "m", models_root, VIEW)


def test_a_revision_that_is_not_there(hub: Hub, models_root: Path) -> None:
    with pytest.raises(NotFound, match="has no revision 'master'"):
        import_model("modelscope:org/model", "m", models_root, VIEW)


def test_only_the_weights_that_match(hub: Hub, models_root: Path, tiny_gguf: Path) -> None:
    hub.files = {"m.Q4_K_M.gguf": tiny_gguf.read_bytes(), "m.Q8_0.gguf": b"GGUF"}
    import_model("modelscope:org/model@v1", "m", models_root, VIEW, ImportOptions(include="*Q4_K_M*"))
    assert (models_root / "m" / "model.gguf").read_bytes() == tiny_gguf.read_bytes()
