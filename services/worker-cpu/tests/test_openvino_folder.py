"""A folder with OpenVINO IR, as exporters write it, can be imported and served."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.progress import ProgressView
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness
from infermesh_worker_cpu.build_model import build_model


def test_an_ir_folder_says_what_its_source_says(
    default_model: Path,
    tmp_path: Path,
    harness_of: Callable[..., Harness],
    fast_model: BuiltModel,
    prompts: tuple[str, ...],
) -> None:
    source = tmp_path / "exported"
    shutil.copytree(default_model / "openvino", source)
    for name in ("tokenizer.json", "config.json", "chat_template.jinja"):
        shutil.copy(default_model / name, source / name)
    manifest = import_model(str(source), "ir", tmp_path / "models", ProgressView(Console(file=io.StringIO())))
    assert manifest.format == "openvino"
    model = build_model({"folder": str(tmp_path / "models" / "ir"), "kv_cache_bytes": 64 << 20})
    try:
        imported, original = (harness_of(m, max_sequences=4) for m in (model, fast_model))
        assert model.eos_token_ids == fast_model.eos_token_ids
        assert imported.tokens(imported.request("a", prompts[0])) == original.tokens(original.request("a", prompts[0]))
    finally:
        model.runner.close()
