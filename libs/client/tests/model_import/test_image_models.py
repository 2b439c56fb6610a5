"""Folders of vision-language models: the manifest says how images become tokens, or the import says what is missing."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tokenizers import Tokenizer

from infermesh_client.model_import import convert
from infermesh_client.model_import.importer import examine_model, import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.workers import checks, provers
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.image_facts import Grid, ImageFacts, Tiles, Whole
from infermesh_runtime.manifest.model_manifest import Manifest
from libs.client.tests.model_import.safetensors_files import safetensors
from libs.client.tests.weights import TOKENIZER

TEXT = {"max_position_embeddings": 128, "eos_token_id": 7}
SMOL: dict[str, Any] = {
    "model_type": "smolvlm",
    "architectures": ["SmolVLMForConditionalGeneration"],
    "text_config": TEXT,
    "vision_config": {"image_size": 512, "patch_size": 16},
    "scale_factor": 4,
}
QWEN = {"model_type": "qwen2_5_vl", "text_config": TEXT, "vision_config": {"patch_size": 14}}
GEMMA = {"model_type": "gemma3", "text_config": TEXT, "vision_config": {}, "mm_tokens_per_image": 256}
SMOL_IMAGES = {"max_image_size": {"longest_edge": 512}, "size": {"longest_edge": 2048}, "do_image_splitting": True}
SMOL_FACTS = ImageFacts(
    layout=Tiles(longest_edge=2048, edge=512, tokens=64),
    written="<image>",
    seen="<image>",
    before="<fake_token_around_image>",
    after="<fake_token_around_image>",
    overview="<global-img>",
)
QWEN_FACTS = ImageFacts(
    layout=Grid(edge=28, least_pixels=3136, most_pixels=1000000), written="<|image_pad|>", seen="<|image_pad|>"
)
GEMMA_FACTS = ImageFacts(
    layout=Whole(tokens=256),
    written="<boi>",
    seen="<image_soft_token>",
    before="\n\n<boi>",
    after="<end_of_image>\n\n",
)
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
NAMES = ["<image>", "<|image_pad|>", "<boi>", "<image_soft_token>"]


@pytest.fixture(autouse=True)
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (convert, provers, checks):
        monkeypatch.setattr(module, "entry_points", lambda group: [])


def folder_of(tmp_path: Path, config: Mapping[str, Any], files: Mapping[str, Any]) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    tokenizer = Tokenizer.from_str(TOKENIZER)
    tokenizer.add_special_tokens(NAMES)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.safetensors").write_bytes(safetensors({"w": [2]}))
    for name, content in {"config.json": config, **files}.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def imported(folder: Path, root: Path) -> Manifest:
    return import_model(str(folder), "m", root, ProgressView(Console(file=io.StringIO())))


@pytest.mark.parametrize(
    ("config", "files", "facts"),
    [
        (SMOL, {PREPROCESSOR: SMOL_IMAGES}, SMOL_FACTS),
        (SMOL, {PROCESSOR: {"image_processor": SMOL_IMAGES}}, SMOL_FACTS),
        (QWEN, {PREPROCESSOR: {"min_pixels": 3136, "max_pixels": 1000000}}, QWEN_FACTS),
        (QWEN, {PREPROCESSOR: {"size": {"shortest_edge": 3136, "longest_edge": 1000000}}}, QWEN_FACTS),
        (GEMMA, {PREPROCESSOR: {"size": {}}, "tokenizer_config.json": {"boi_token": "<boi>"}}, GEMMA_FACTS),
        (GEMMA, {}, None),  # served for its texts
        ({"model_type": "llama", **TEXT}, {PREPROCESSOR: {"size": {}}}, None),
    ],
    ids=range(7),
)
def test_the_manifest_says_how_images_are_read(
    models_root: Path, tmp_path: Path, config: Mapping[str, Any], files: Mapping[str, Any], facts: ImageFacts | None
) -> None:
    manifest = imported(folder_of(tmp_path, config, files), models_root)
    assert manifest.images == facts
    assert set(files) <= set(manifest.files)


@pytest.mark.parametrize(
    ("config", "files", "problem"),
    [
        (SMOL, {}, "no preprocessor_config.json, so nobody can tell how this model of type smolvlm"),
        (SMOL, {PREPROCESSOR: {"max_image_size": {"longest_edge": 0}}}, "do not say how images become tokens"),
        (SMOL, {PREPROCESSOR: {"max_image_size": 5}}, "do not say how images become tokens"),
        (SMOL, {PREPROCESSOR: SMOL_IMAGES, "tokenizer_config.json": {"image_token": "<x>"}}, "has no token '<x>'"),
    ],
    ids=range(4),
)
def test_what_is_missing_is_named_before_anything_is_copied(
    models_root: Path,
    tmp_path: Path,
    config: Mapping[str, Any],
    files: Mapping[str, Any],
    problem: str,
) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        imported(folder_of(tmp_path, config, files), models_root)
    assert not (models_root / "m").exists()


def test_an_examination_says_that_it_takes_images(models_root: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SMOL, {PREPROCESSOR: SMOL_IMAGES})
    lines = examine_model(str(folder), models_root, ProgressView(Console(file=io.StringIO())))
    assert "images: taken in conversations on worker-xpu" in lines
