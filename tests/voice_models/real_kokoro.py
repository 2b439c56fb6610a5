"""Imports the real Kokoro as the example says it."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView

NAME = "kokoro"
_GET = Path(__file__).parents[2] / "examples" / "get_kokoro.py"


def import_kokoro(root: Path) -> Path:
    """The model's folder below a models root; downloads it if it is not there."""
    if not (root / NAME).exists():
        source = root.parent / NAME
        subprocess.run([sys.executable, _GET, source], check=True)
        import_model(
            str(source), NAME, root, ProgressView(Console(file=io.StringIO())), ImportOptions(home=root.parent)
        )
    return root / NAME
