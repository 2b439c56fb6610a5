"""Files that cannot be right are refused at the import, with words, and leave nothing behind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument
from libs.client.tests.model_import.conftest import IR
from libs.client.tests.model_import.safetensors_files import WEIGHTS

CONFIG = {"max_position_embeddings": 128, "eos_token_id": 7}


@pytest.fixture
def view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProgressView:
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return ProgressView(Console(quiet=True))


def refused(source: Path, root: Path, view: ProgressView, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        import_model(str(source), "bad", root, view)
    assert [path.name for path in root.iterdir() if path.name != ".import.lock"] == []


def folder_of(root: Path, *, config: object = CONFIG, **files: str) -> Path:
    folder = root / "source"
    folder.mkdir()
    content = {"config__json": json.dumps(config), "tokenizer__json": "{}", **files}
    for name, text in content.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"add_context_length": 0}, "max_position_embeddings is 0; expected a number from 1"),
        ({"add_context_length": 2**32 - 1}, "max_position_embeddings is 4294967295"),
        ({"add_head_count": 0}, "num_attention_heads is 0"),
        ({"add_head_count_kv": 0}, "num_key_value_heads is 0"),
        ({"add_block_count": 0}, "num_hidden_layers is 0"),
        ({"add_embedding_length": 0}, "hidden_size is 0"),
        ({"add_head_count": 9, "add_head_count_kv": 2}, "not a multiple"),
    ],
)
def test_gguf_files_with_impossible_counts(  # noqa: PLR0917 - fixtures and cases
    written: dict[str, int],
    problem: str,
    make_gguf: Callable[..., Path],
    models_root: Path,
    tmp_path: Path,
    view: ProgressView,
) -> None:
    refused(make_gguf(tmp_path / "bad.gguf", **written), models_root, view, problem)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({"max_position_embeddings": 0}, "max_position_embeddings is 0"),
        ({"max_position_embeddings": 2**32}, "max_position_embeddings is 4294967296"),
        ({"max_position_embeddings": True}, "does not give the context length"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"vocab_size": -5}, "vocab_size is -5"),
        ({"eos_token_id": -1}, "names an end-of-sequence token"),
    ],
)
def test_configurations_with_impossible_counts(
    written: dict[str, int], problem: str, models_root: Path, tmp_path: Path, view: ProgressView
) -> None:
    source = folder_of(tmp_path, config=CONFIG | written, model__safetensors=WEIGHTS)
    refused(source, models_root, view, problem)


@pytest.mark.parametrize(
    ("xml", "weights", "problem"),
    [
        ("<net/>", "w", "has no layers"),
        ("<net>", "w", "is no OpenVINO IR"),
        ("hello", "w", "is no OpenVINO IR"),
        (IR, "short", "cut short: it has 5 bytes, and openvino_model.xml names 7"),
    ],
)
def test_ir_folders_that_hold_no_network(  # noqa: PLR0917 - fixtures and cases
    xml: str, weights: str, problem: str, models_root: Path, tmp_path: Path, view: ProgressView
) -> None:
    source = folder_of(tmp_path, openvino_model__xml=xml, openvino_model__bin=weights)
    refused(source, models_root, view, problem)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "model.safetensors", "chat_template.jinja"])
def test_a_link_to_a_file_outside_of_the_folder(
    name: str, models_root: Path, tmp_path: Path, view: ProgressView
) -> None:
    source = folder_of(tmp_path, model__safetensors=WEIGHTS)
    secret = tmp_path / "secret"
    secret.write_text("{}")
    secret.chmod(0o600)
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    refused(source, models_root, view, "symbolic link to .*secret, outside of the model's folder")


def test_a_link_beside_a_gguf_file(tiny_gguf: Path, models_root: Path, tmp_path: Path, view: ProgressView) -> None:
    folder = tmp_path / "gguf"
    folder.mkdir()
    tiny_gguf.rename(folder / "tiny.gguf")
    (tmp_path / "secret").write_text("private")
    (folder / "chat_template.jinja").symlink_to(tmp_path / "secret")
    refused(folder / "tiny.gguf", models_root, view, "outside of the model's folder")


def test_the_links_of_the_hubs_cache_are_followed(models_root: Path, tmp_path: Path, view: ProgressView) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "snapshots").mkdir(parents=True)
    (repository / "blobs").mkdir()
    source = folder_of(repository / "snapshots", model__safetensors=WEIGHTS)
    for path in [*source.iterdir()]:
        blob = path.rename(repository / "blobs" / path.name)
        path.symlink_to(blob)
    import_model(str(source), "good", models_root, view)
    assert (models_root / "good" / "model.safetensors").read_text() == WEIGHTS
    assert not (models_root / "good" / "model.safetensors").is_symlink()
