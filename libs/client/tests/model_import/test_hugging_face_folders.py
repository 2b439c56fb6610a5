"""Hugging Face folders as people have them: imported if whole, else refused by name before a byte is copied."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_manifest import read_manifest
from libs.client.tests.model_import.safetensors_files import safetensors
from libs.client.tests.weights import TOKENIZER

CONFIG = {"model_type": "llama", "max_position_embeddings": 128, "eos_token_id": 7, "vocab_size": 8}
EMBEDDING = {"model.embed_tokens.weight": [8, 4]}
HEAD = {"lm_head.weight": [8, 4]}
LAYER = {"model.layers.0.mlp.up_proj.weight": [4, 4]}
INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 5000000000\n"

Files = dict[str, bytes]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the import writes what it tells the user; there are no converters."""
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    return tmp_path / "said.txt"


def folder_of(tmp_path: Path, files: Files, *, config: Mapping[str, object] = CONFIG) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in {
        "config.json": json.dumps(config).encode(),
        "tokenizer.json": TOKENIZER.encode(),
        **files,
    }.items():
        (folder / name).write_bytes(content)
    return folder


def index_of(**homes: str) -> bytes:
    return json.dumps({"weight_map": homes}).encode()


def imported(source: Path, root: Path, said: Path) -> Path:
    with said.open("w") as file:
        import_model(str(source), "m", root, ProgressView(Console(file=file, width=500)))
    return root / "m"


def refused(source: Path, root: Path, said: Path, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        imported(source, root, said)
    assert [path.name for path in root.glob("*") if path.name != ".import.lock"] == []
    assert "Copying" not in said.read_text()


def weights_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if "safetensors" in path.name}


def weight_map(folder: Path) -> object:
    return json.loads((folder / INDEX).read_bytes())["weight_map"]


A, B = safetensors(EMBEDDING), safetensors(LAYER)
WHOLE = safetensors(EMBEDDING | LAYER)
A_TENSOR, B_TENSOR = *EMBEDDING, *LAYER


def test_shards_by_whatever_name_the_index_gives(models_root: Path, tmp_path: Path, said: Path) -> None:
    index = index_of(**{A_TENSOR: "weights_a.safetensors", B_TENSOR: "b.safetensors"})
    files = {"weights_a.safetensors": A, "b.safetensors": B, "stray.safetensors": A, INDEX: index}
    folder = imported(folder_of(tmp_path, files), models_root, said)
    assert weights_in(folder) == {INDEX, "weights_a.safetensors", "b.safetensors"}
    assert weight_map(folder) == {A_TENSOR: "weights_a.safetensors", B_TENSOR: "b.safetensors"}


def test_an_index_that_mixes_up_its_shards_is_written_anew(models_root: Path, tmp_path: Path, said: Path) -> None:
    index = index_of(**{A_TENSOR: "b.safetensors", B_TENSOR: "a.safetensors"})
    source = folder_of(tmp_path, {"a.safetensors": A, "b.safetensors": B, INDEX: index})
    folder = imported(source, models_root, said)
    assert weight_map(folder) == {A_TENSOR: "a.safetensors", B_TENSOR: "b.safetensors"}


def test_shards_without_an_index(models_root: Path, tmp_path: Path, said: Path) -> None:
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    folder = imported(folder_of(tmp_path, {one: A, two: B}), models_root, said)
    assert weight_map(folder) == {A_TENSOR: one, B_TENSOR: two}


def test_a_single_file_with_another_name(models_root: Path, tmp_path: Path, said: Path) -> None:
    folder = imported(folder_of(tmp_path, {"weights.safetensors": WHOLE}), models_root, said)
    assert weights_in(folder) == {"model.safetensors"}


def test_a_single_file_beside_a_stale_index(models_root: Path, tmp_path: Path, said: Path) -> None:
    files = {"model.safetensors": WHOLE, INDEX: index_of(gone="model-00001-of-00002.safetensors")}
    folder = imported(folder_of(tmp_path, files), models_root, said)
    assert weights_in(folder) == {"model.safetensors"}


def test_a_single_file_goes_before_an_index_of_the_same_tensors(models_root: Path, tmp_path: Path, said: Path) -> None:
    index = index_of(**{A_TENSOR: "a.safetensors", B_TENSOR: "b.safetensors"})
    files = {"model.safetensors": WHOLE, "a.safetensors": A, "b.safetensors": B, INDEX: index}
    folder = imported(folder_of(tmp_path, files), models_root, said)
    assert weights_in(folder) == {"model.safetensors"}


ONE_OF_TWO = "model-00001-of-00002.safetensors"
INDEXED = index_of(**{A_TENSOR: "a.safetensors", B_TENSOR: "b.safetensors"})


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"a.safetensors": A, INDEX: INDEXED}, "lacks 1 of the 2 files that .* names, such as b.safetensors"),
        ({ONE_OF_TWO: A}, "lacks shard 2 of 2"),
        ({"a.safetensors": A, "b.safetensors": B}, "not clear which files"),
        ({"a.safetensors": A, INDEX: index_of(x="../../secret.safetensors")}, "no safetensors file of the same folder"),
        ({"a.safetensors": A, INDEX: b"{}"}, "is malformed"),
        ({"a.safetensors": A, "b.safetensors": A, INDEX: INDEXED}, "the tensor model.embed_tokens.weight twice"),
        ({"a.safetensors": A, INDEX: index_of(gone="a.safetensors")}, "names the tensor gone, which is in none"),
        (
            {"model.safetensors": A, "a.safetensors": A, "b.safetensors": B, INDEX: INDEXED},
            "names the tensor model.layers.0.mlp.up_proj.weight, which is in none",
        ),
        ({"model.safetensors": WHOLE[:-1]}, "cut short"),
        ({"model.safetensors": POINTER}, "is a Git LFS pointer"),
        ({"model.safetensors": WHOLE, "tokenizer.json": POINTER}, "tokenizer.json is a Git LFS pointer"),
        ({"pytorch_model.bin": b"x"}, r"pickled weights \(pytorch_model.bin\) are not loaded"),
        ({"adapter_model.safetensors": A, "adapter_config.json": b"{}"}, "is an adapter"),
    ],
)  # fmt: skip
def test_folders_that_are_not_whole(files: Files, problem: str, models_root: Path, tmp_path: Path, said: Path) -> None:
    refused(folder_of(tmp_path, files), models_root, said, problem)


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        ({"quantization_config": FP8}, {}, "quantised with FP8"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, {}, "quantised with AWQ"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, {}, "quantised with GPTQ"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, {}, "quantised with compressed-tensors"),
        ({"compression_config": {"format": "pack-quantized"}}, {}, "quantised with compressed-tensors"),
        ({"text_config": {"quantization_config": {"quant_method": "new"}}}, {}, "quantised with new"),
        ({}, {"hf_quant_config.json": b"{}"}, "quantised with NVIDIA ModelOpt"),
        ({}, {"model.safetensors": safetensors(EMBEDDING, "F8_E4M3")}, "quantised weights.* is F8_E4M3"),
        ({}, {"model.safetensors": safetensors({"model.q.qweight": [2]}, "I32")}, "model.q.qweight is I32"),
    ],
)  # fmt: skip
def test_quantised_checkpoints(  # noqa: PLR0917 - fixtures and cases
    config: dict[str, object], files: Files, problem: str, models_root: Path, tmp_path: Path, said: Path
) -> None:
    source = folder_of(tmp_path, {"model.safetensors": WHOLE, **files}, config=CONFIG | config)
    refused(source, models_root, said, problem)


def test_code_that_comes_with_a_model_is_not_copied_and_not_needed(
    models_root: Path, tmp_path: Path, said: Path
) -> None:
    code = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    files = {"model.safetensors": WHOLE, "modeling_phi3.py": b"raise SystemExit"}
    source = folder_of(tmp_path, files, config=CONFIG | {"model_type": "phi3", "auto_map": code})
    assert not any(path.suffix == ".py" for path in imported(source, models_root, said).iterdir())


def test_a_model_that_needs_its_own_code(models_root: Path, tmp_path: Path, said: Path) -> None:
    code = {"AutoModelForCausalLM": "modeling_new.NewForCausalLM"}
    files = {"model.safetensors": WHOLE, "modeling_new.py": b"raise SystemExit"}
    source = folder_of(tmp_path, files, config=CONFIG | {"model_type": "brand_new", "auto_map": code})
    refused(source, models_root, said, "needs Python code that comes with the model .*modeling_new.NewForCausalLM")


@pytest.mark.parametrize(("tied", "head"), [(True, {}), (True, HEAD), (False, HEAD)])
def test_tied_heads_with_and_without_their_own_tensor(
    tied: bool, head: dict[str, list[int]], models_root: Path, tmp_path: Path, said: Path
) -> None:
    files = {"model.safetensors": safetensors(EMBEDDING | LAYER | head)}
    imported(folder_of(tmp_path, files, config=CONFIG | {"tie_word_embeddings": tied}), models_root, said)


@pytest.mark.parametrize(("differs", "tied"), [(False, True), (True, False)])
def test_a_tied_head_that_differs_from_the_embedding_is_kept(
    differs: bool, tied: bool, models_root: Path, tmp_path: Path, said: Path
) -> None:
    weights = bytearray(safetensors(EMBEDDING | LAYER | HEAD))
    weights[-1] = differs
    source = folder_of(tmp_path, {"model.safetensors": bytes(weights)}, config=CONFIG | {"tie_word_embeddings": True})
    folder = imported(source, models_root, said)
    assert json.loads((folder / "config.json").read_bytes())["tie_word_embeddings"] is tied
    assert ("The output head differs from the embedding" in said.read_text()) is differs


def test_a_head_that_is_neither_tied_nor_there(models_root: Path, tmp_path: Path, said: Path) -> None:
    source = folder_of(tmp_path, {"model.safetensors": WHOLE}, config=CONFIG | {"tie_word_embeddings": False})
    refused(source, models_root, said, r"no output head \(lm_head.weight\)")


def test_a_vocabulary_of_another_size(models_root: Path, tmp_path: Path, said: Path) -> None:
    source = folder_of(tmp_path, {"model.safetensors": WHOLE}, config=CONFIG | {"vocab_size": 9})
    refused(source, models_root, said, "has 8 rows in its embedding, but vocab_size in config.json is 9")


def tokenizer(vocabulary: Mapping[str, int], added: Mapping[str, int]) -> bytes:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    entries = [{"content": token, "id": number, "special": True, **flags} for token, number in added.items()]
    model = {"type": "BPE", "vocab": vocabulary, "merges": []}
    return json.dumps({"version": "1.0", "model": model, "added_tokens": entries}).encode()


def test_added_tokens_beyond_the_embedding_are_told(models_root: Path, tmp_path: Path, said: Path) -> None:
    files = {"model.safetensors": WHOLE, "tokenizer.json": tokenizer({"a": 0}, {"<pad>": 7, "<image>": 8})}
    imported(folder_of(tmp_path, files), models_root, said)
    assert "8 rows, too few for 1 tokens of the tokenizer, such as '<image>'" in said.read_text()


def test_a_tokenizer_of_another_model(models_root: Path, tmp_path: Path, said: Path) -> None:
    files = {"model.safetensors": WHOLE, "tokenizer.json": tokenizer({"a": 0, "b": 8}, {})}
    refused(folder_of(tmp_path, files), models_root, said, "tokenizer.json belongs to another model")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            {"model_type": "bert", "architectures": ["BertForQuestionAnswering"]},
            "is a BertForQuestionAnswering, not a model that",
        ),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, "is a ViTModel, not a model that"),
        ({"architectures": ["LlamaForTokenClassification"]}, "is a LlamaForTokenClassification"),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            r"is an encoder with a decoder \(T5ForConditionalGeneration\)",
        ),
    ],
)
def test_model_that_does_not_write_text_is_refused(
    config: dict[str, object], problem: str, tmp_path: Path, models_root: Path, said: Path
) -> None:
    source = folder_of(tmp_path, {"model.safetensors": safetensors(EMBEDDING)}, config=CONFIG | config)
    refused(source, models_root, said, problem)


@pytest.mark.parametrize("names", [["LlamaForCausalLM"], ["LlamaModel"], [], None, ["Other", "LlamaForCausalLM"]])
def test_model_that_writes_text_is_taken(
    names: list[str] | None, tmp_path: Path, models_root: Path, said: Path
) -> None:
    config = CONFIG | {"architectures": names, "is_encoder_decoder": False}
    source = folder_of(tmp_path, {"model.safetensors": safetensors(EMBEDDING | HEAD)}, config=config)
    assert imported(source, models_root, said).is_dir()


LONG = {"short_factor": [1.0], "long_factor": [4.0]}


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"rope_scaling": {"type": "longrope", **LONG}, "original_max_position_embeddings": 32}, 32),
        ({"rope_parameters": {"rope_type": "su", **LONG, "original_max_position_embeddings": 48}}, 48),
        ({"rope_parameters": {"full_attention": {**LONG, "original_max_position_embeddings": 16}}}, 16),
        ({"text_config": {"rope_scaling": {**LONG, "original_max_position_embeddings": 24}}}, 24),
        ({"rope_scaling": LONG}, 128),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 32}}, 128),
    ],
)  # fmt: skip
def test_longrope_is_served_up_to_the_length_of_its_first_training(
    config: dict[str, object], context: int, models_root: Path, tmp_path: Path, said: Path
) -> None:
    source = folder_of(tmp_path, {"model.safetensors": WHOLE}, config=CONFIG | config)
    folder = imported(source, models_root, said)
    assert read_manifest(folder).context_length == context
    note = f"{context} tokens of 128, because beyond them LongRoPE"
    assert (note in said.read_text()) is (context < 128)
    account = examine_model(str(source), models_root, ProgressView(Console(file=io.StringIO())))
    assert any(note in line for line in account) is (context < 128)
