"""What can be known of weight files is checked before a byte is copied, and errors name the user's file."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from rich.console import Console

from infermesh_client.model_import import convert, files
from infermesh_client.model_import.fetching import folder as folder_fetching
from infermesh_client.model_import.fetching import gguf as gguf_fetching
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers import checks
from infermesh_client.weight_files.gguf_header import read_header
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from libs.client.tests.weights import TOKENIZER, safetensors

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12345678\n"


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> ProgressView:
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return ProgressView(Console(quiet=True))


@pytest.fixture
def nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_arguments: object, **_options: object) -> None:
        raise AssertionError("weights were copied before the file was refused")

    for place in (gguf_fetching, folder_fetching):
        monkeypatch.setattr(place, "copy_files", copied)
    monkeypatch.setattr(files, "copy_stream", copied)


def refused(source: Path, named: Path, problem: str, root: Path, view: ProgressView) -> None:
    """Both the import and its dry run refuse the source in words that name the user's file."""
    for attempt in (lambda: import_model(str(source), "m", root, view), lambda: examine_model(str(source), root, view)):
        with pytest.raises(InvalidArgument, match=problem) as caught:
            attempt()
        assert str(named) in caught.value.message
        assert ".import-" not in caught.value.message
    assert not (root / "m").exists()


def changed(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def set_u32(at: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[at : at + 4] = struct.pack("<I", value)

    return change


def cut(data: bytearray) -> None:
    del data[-1000:]


def tensor_of_type(kind: int) -> Callable[[bytearray], None]:
    """Changes the type of token_embd.weight, which follows its name and its one size."""

    def change(data: bytearray) -> None:
        at = data.rindex(b"token_embd.weight") + len(b"token_embd.weight") + 12
        data[at : at + 4] = struct.pack("<I", kind)

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (set_u32(4, 1), "GGUF version 1"),
        (set_u32(4, 3 << 24), "big-endian"),
        (set_u32(8, 2**31), "tensors, which no model has"),
        (cut, "cut short: the tensor 'token_embd.weight' ends at byte"),
        (tensor_of_type(4), "type 4, which this version does not know"),
        (lambda data: data.__setitem__(slice(0, 4), b"PK\x03\x04"), "is not a GGUF file"),
        (lambda data: data.__setitem__(slice(0, None), POINTER.encode()), "Git LFS pointer, not the file of 12.3 MB"),
    ],
)
def test_a_damaged_gguf_file(  # noqa: PLR0917 - fixtures and cases
    change: Callable[[bytearray], None],
    problem: str,
    tiny_gguf: Path,
    models_root: Path,
    view: ProgressView,
    nothing_is_copied: None,
) -> None:
    refused(changed(tiny_gguf, change), tiny_gguf, problem, models_root, view)


def write(path: Path, architecture: str, **keys: str) -> Path:
    writer = GGUFWriter(path, architecture)
    for name, value in keys.items():
        writer.add_key_value(name.replace("__", "."), value, GGUFValueType.STRING)
    writer.add_context_length(64)
    writer.add_tensor("w", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("architecture", "keys", "problem"),
    [
        ("clip", {}, "the vision part of another model"),
        ("llama", {"general__type": "adapter"}, "a LoRA adapter, not a model"),
        ("llama", {}, "has no tokenizer"),
    ],
)
def test_a_gguf_file_that_is_no_language_model(  # noqa: PLR0917 - fixtures and cases
    architecture: str,
    keys: dict[str, str],
    problem: str,
    tmp_path: Path,
    models_root: Path,
    view: ProgressView,
    nothing_is_copied: None,
) -> None:
    path = write(tmp_path / "other.gguf", architecture, **keys)
    refused(path, path, problem, models_root, view)


def split(source: Path, folder: Path, *, tensors: dict[int, list[str]]) -> list[Path]:
    """Splits a file as llama.cpp does: the first shard has all keys, each has its own tensors."""
    reader, shards = GGUFReader(source), []
    for number, names in tensors.items():
        path = folder / f"model-{number + 1:05}-of-{len(tensors):05}.gguf"
        writer = GGUFWriter(path, "llama")
        for field in reader.fields.values() if number == 0 else ():
            if not field.name.startswith("GGUF.") and field.name != "general.architecture":
                sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
        writer.add_key_value("split.no", number, GGUFValueType.UINT16)
        writer.add_key_value("split.count", len(tensors), GGUFValueType.UINT16)
        writer.add_key_value("split.tensors.count", sum(map(len, tensors.values())), GGUFValueType.INT32)
        for tensor in reader.tensors:
            if tensor.name in names:
                writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        shards.append(path)
    return shards


@pytest.fixture
def shards(tiny_gguf: Path, tmp_path: Path) -> list[Path]:
    reader = GGUFReader(tiny_gguf)
    writer = GGUFWriter(tmp_path / "two.gguf", "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=sub_type)
    writer.add_tensor("token_embd.weight", np.arange(96, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.arange(33, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = tmp_path / "split"
    folder.mkdir()
    return split(tmp_path / "two.gguf", folder, tensors={0: ["token_embd.weight"], 1: ["output_norm.weight"]})


@pytest.mark.parametrize("given", [0, 1, None])
def test_shards_are_merged(given: int | None, shards: list[Path], models_root: Path, view: ProgressView) -> None:
    """Whichever shard is named, or their folder."""
    source = shards[given] if given is not None else shards[0].parent
    import_model(str(source), "m", models_root, view)
    merged = GGUFReader(models_root / "m" / "model.gguf")
    assert {tensor.name: tensor.data.tolist() for tensor in merged.tensors} == {
        "token_embd.weight": list(range(96)),
        "output_norm.weight": list(range(33)),
    }
    assert not [name for name in merged.fields if name.startswith("split.")]
    assert merged.fields["tokenizer.ggml.tokens"].contents() == (
        GGUFReader(shards[0]).fields["tokenizer.ggml.tokens"].contents()
    )
    assert any("merged from 2 shards" in line for line in examine_model(str(shards[0]), models_root, view))


def test_a_shard_without_its_sibling(
    shards: list[Path], models_root: Path, view: ProgressView, nothing_is_copied: None
) -> None:
    shards[1].unlink()
    refused(shards[0], shards[0], "is shard 1 of 2; model-00002-of-00002.gguf must lie beside it", models_root, view)


def test_a_shard_under_another_name(
    shards: list[Path], models_root: Path, view: ProgressView, nothing_is_copied: None
) -> None:
    renamed = shards[0].rename(shards[0].with_name("split_1_of_2.gguf"))
    refused(renamed, renamed, "is shard 1 of 2, and its siblings cannot be found", models_root, view)


def test_shards_of_two_models(
    shards: list[Path], models_root: Path, view: ProgressView, nothing_is_copied: None
) -> None:
    shards[1].write_bytes(shards[0].read_bytes())
    refused(shards[0], shards[0], "does not say that it is shard 2 of 2", models_root, view)


@pytest.fixture
def hugging_face(tmp_path: Path) -> Path:
    folder = tmp_path / "hf"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128, "eos_token_id": 7}))
    (folder / "tokenizer.json").write_text(TOKENIZER)
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("model.safetensors", safetensors()[:-1], "cut short: its header lists 7 bytes of data, and the file has 6"),
        ("model.safetensors", safetensors() + b"x", "has bytes that no tensor uses"),
        ("model.safetensors", b"x", "it has only 1 bytes"),
        ("model.safetensors", struct.pack("<Q", 2**60) + b"{}", "its header claims 1152921504606846976 bytes"),
        ("model.safetensors", struct.pack("<Q", 2) + b"{}", "holds no tensors"),
        ("model.safetensors", safetensors().replace(b'"U8"', b'"Q9"'), "unknown type 'Q9'"),
        ("model.safetensors", safetensors().replace(b"[7]", b"[9]"), "need 9 bytes from byte 0 on"),
        ("model.safetensors", POINTER.encode(), "Git LFS pointer"),
        ("tokenizer.json", POINTER.encode(), "Git LFS pointer"),
        ("tokenizer.json", b"{}", "is no tokenizer that can be used"),
        ("config.json", b"nonsense", "is not JSON"),
    ],
)
def test_a_damaged_folder(  # noqa: PLR0917 - fixtures and cases
    name: str,
    data: bytes,
    problem: str,
    hugging_face: Path,
    models_root: Path,
    view: ProgressView,
    nothing_is_copied: None,
) -> None:
    (hugging_face / name).write_bytes(data)
    refused(hugging_face, hugging_face / name, problem, models_root, view)


def test_a_dry_run_says_what_there_is_and_writes_nothing(
    tiny_gguf: Path, hugging_face: Path, models_root: Path, view: ProgressView
) -> None:
    lines = examine_model(str(tiny_gguf), models_root, view)
    expected = (str(tiny_gguf), "architecture: llama", "1 F32", "gpt2 (smollm)", "context: 512", "GB free")
    assert all(any(part in line for line in lines) for part in expected)
    assert "weights: 1 tensors (1 U8), 0.0 million parameters" in examine_model(str(hugging_face), models_root, view)
    assert not models_root.exists()


def test_workers_check_before_the_copy(
    tiny_gguf: Path, models_root: Path, view: ProgressView, monkeypatch: pytest.MonkeyPatch, nothing_is_copied: None
) -> None:
    class Entry:
        name = "testdevice"

        def load(self) -> Callable[[Path, str], list[str]]:
            def check(path: Path, model_format: str) -> list[str]:
                assert (path, model_format) == (tiny_gguf, "gguf")
                if "llama.block_count" in read_header(path).keys:
                    raise FailedPrecondition("llama.block_count is not known here")
                return []

            return check

    monkeypatch.setattr(checks, "entry_points", lambda group: [Entry()])
    with pytest.raises(FailedPrecondition, match="block_count is not known here"):
        import_model(str(tiny_gguf), "m", models_root, view)
