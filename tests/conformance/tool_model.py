"""Makes a small model whose chat template takes tools and thinking: the default model with Qwen 3's template."""

import hashlib
import json
import os
import shutil
from pathlib import Path

TEMPLATE = Path(__file__).parents[2] / "libs/runtime/tests/chat_templates/templates/qwen3.jinja"
NAME = "tools"


def make_tool_model(source: Path, models: Path) -> None:
    """Puts it into the models folder. Its other files are symbolic links to those of `source`."""
    target = models / NAME
    shutil.copytree(source, target, copy_function=os.symlink, ignore=shutil.ignore_patterns(".verified.json"))
    template = TEMPLATE.read_bytes()
    _replace(target / "chat_template.jinja", template)
    manifest = json.loads((target / "infermesh.json").read_text())
    manifest["name"] = NAME
    manifest["files"]["chat_template.jinja"] = {
        "size_bytes": len(template),
        "sha256": hashlib.sha256(template).hexdigest(),
    }
    _replace(target / "infermesh.json", json.dumps(manifest).encode())


def _replace(path: Path, data: bytes) -> None:
    """Writes a file anew, so that what it was linked to stays."""
    path.unlink()
    path.write_bytes(data)
