"""How a model's answers end, and whether its chat template works, is known before its weights are copied."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument
from libs.client.tests.model_import.conftest import CONFIG, SAFETENSORS, Hub, RunImport
from libs.client.tests.weights import TOKENIZER

NO_END, NO_USE = "name the token with --eos TOKEN", "works for no conversation"
ENDLESS = "{% for i in range(10 ** 9) %}{{ messages }}{% endfor %}"
WITHOUT_END = json.dumps({**json.loads(CONFIG), "eos_token_id": None}).encode()


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the import writes what it tells the user; there are no converters."""
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return tmp_path / "said.txt"


def folder_of(tmp_path: Path, files: dict[str, bytes]) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name, content in {**SAFETENSORS, "tokenizer.json": TOKENIZER.encode(), **files}.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    return source


def refused(source: Path, root: Path, said: Path, problem: str) -> None:
    with said.open("w") as file:
        view = ProgressView(Console(file=file, width=500))
        with pytest.raises(InvalidArgument, match=problem):
            import_model(str(source), "m", root, view)
        with pytest.raises(InvalidArgument, match=problem):
            examine_model(str(source), root, view)
    assert "Copying" not in said.read_text()


def test_gguf_file(tmp_path: Path, models_root: Path, said: Path, make_gguf: Callable[..., Path]) -> None:
    refused(make_gguf(tmp_path / "tiny.gguf", add_chat_template=ENDLESS), models_root, said, NO_USE)


@pytest.mark.parametrize(
    ("files", "problem"),
    [({"config.json": WITHOUT_END}, NO_END), ({"chat_template.jinja": ENDLESS.encode()}, NO_USE)],
)
def test_folder(files: dict[str, bytes], problem: str, tmp_path: Path, models_root: Path, said: Path) -> None:
    refused(folder_of(tmp_path, files), models_root, said, problem)


def test_token_that_the_user_names_counts(tmp_path: Path, models_root: Path, said: Path) -> None:
    options = ImportOptions(eos=("0",), verify=False)
    with said.open("w") as file:
        source = folder_of(tmp_path, {"config.json": WITHOUT_END})
        manifest = import_model(str(source), "m", models_root, ProgressView(Console(file=file)), options)
    assert manifest.eos_token_ids == (0,)


def test_repository(hub: Hub, run_import: RunImport, models_root: Path) -> None:
    hub.models["org/model"] = {**SAFETENSORS, "config.json": WITHOUT_END}
    code, output = run_import("org/model", "--name", "m")
    assert (code, NO_END in output) == (1, True), output
    assert not any(request.startswith("GET") and ".safetensors" in request for request in hub.requests)
