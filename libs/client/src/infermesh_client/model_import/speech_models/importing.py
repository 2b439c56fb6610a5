"""Imports a model that turns speech into text, from a folder on this machine.

A worker's package registers a function under `infermesh.speech_models`. It is called, in a process of its own, as
`check(folder, *, progress)` with the folder to import, loads the model there, runs it once, and returns
{"context_length", "languages"}. For what it cannot serve, it raises an InfermeshError that says why.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.fetching.origin import licence_beside, revision_of
from infermesh_client.model_import.files import copy_files, hash_folder
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.speech_models.from_ctranslate2 import write_safetensors
from infermesh_client.model_import.speech_models.kind import CTRANSLATE2, small_files, weight_files
from infermesh_client.model_import.staging import check_free_space, publish, staging_folder
from infermesh_client.model_import.tensor_models.importing import check_options
from infermesh_client.model_import.text_models.importing import Origin
from infermesh_client.model_import.user_paths import explained, unstaged
from infermesh_client.model_import.workers.asking import Served, ask_workers
from infermesh_client.model_import.workers.tools import package_versions
from infermesh_client.weight_files.account import disk_line
from infermesh_client.weight_files.inspect import inspect_safetensors, inspect_tokenizer
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_manifest import Manifest, write_manifest

GROUP = "infermesh.speech_models"
_TOOLS = ("infermesh-client", "infermesh-worker-cpu", "infermesh-worker-xpu", "openvino", "tokenizers", "transformers")
THIS = "this one turns speech into text"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What is known of a folder before anything is copied."""

    files: Sequence[Path]
    size_bytes: int
    """Of the weights."""
    served: Served


def import_speech_model(
    path: Path, target: Path, view: ProgressView, options: ImportOptions, *, force: bool, origin: Origin | None = None
) -> Manifest:
    """Copies a model into `target`, under the name of that folder, and returns its manifest.

    `origin`: where the folder was downloaded from; None: it is the source itself. Raises InfermeshError.
    """
    path = path.absolute()
    origin = origin or Origin(label=str(path), revision=revision_of(path), licence=licence_beside(path))
    check_options(options, THIS)
    with explained(), _as_safetensors(path, view) as source:
        checked = _check(source, options.home or target.parent.parent, view)
        check_free_space(target.parent, checked.size_bytes, what="the import")
        with staging_folder(target.parent, target.name) as folder, unstaged(folder, origin.label, target):
            pairs = [(file, folder / file.relative_to(source)) for file in checked.files]
            copy_files(pairs, view, title=f"Copying {path.name}")
            manifest = Manifest(
                name=target.name,
                source=origin.label,
                format="safetensors",
                kind="transcribe",
                context_length=checked.served.found["context_length"],
                eos_token_ids=(),
                bos_token_id=None,
                size_bytes=checked.size_bytes,
                created=datetime.now(UTC).replace(microsecond=0),
                revision=origin.revision,
                licence=origin.licence,
                not_for=checked.served.refused,
                tools=package_versions(*_TOOLS),
                files=hash_folder(folder, view),
            )
            write_manifest(folder, manifest)
            publish(folder, target, view, force=force)
    view.say(_account(checked))
    return manifest


def examine_speech_model(path: Path, root: Path, view: ProgressView, options: ImportOptions) -> Sequence[str]:
    """Makes the checks of an import, and says what it found; writes nothing. Raises InfermeshError."""
    check_options(options, THIS)
    with explained(), _as_safetensors(path.absolute(), view) as source:
        checked = _check(source, options.home or root.parent, view)
    return [f"source: {path.absolute()}", _account(checked), disk_line(root, checked.size_bytes)]


@contextmanager
def _as_safetensors(path: Path, view: ProgressView) -> Iterator[Path]:
    """The folder itself or, if its weights are CTranslate2's, one beside it for the time being with safetensors."""
    if weight_files(path):
        yield path
        return
    for file in (*small_files(path), path / CTRANSLATE2):
        check_link(file)
        check_no_pointer(file)
    with tempfile.TemporaryDirectory(prefix="infermesh-speech-") as scratch:
        folder = Path(scratch)
        check_free_space(folder, (path / CTRANSLATE2).stat().st_size, what="the conversion")
        for file in small_files(path):
            shutil.copyfile(file, folder / file.name)
        write_safetensors(path / CTRANSLATE2, folder / "model.safetensors", view)
        yield folder


def _check(path: Path, home: Path, view: ProgressView) -> _Checked:
    if not (path / "tokenizer.json").is_file():
        raise InvalidArgument(
            f"{path} has no tokenizer.json; transformers' AutoTokenizer writes it with save_pretrained"
        )
    weights = weight_files(path)
    files = [*small_files(path), *weights]
    for file in files:
        check_link(file)
        check_no_pointer(file)
    inspect_tokenizer(path / "tokenizer.json")
    inspect_safetensors(weights)
    missing = "no worker is installed that turns speech into text; infermesh-worker-cpu does"
    served = ask_workers(GROUP, path, {}, home, view, missing=missing)
    return _Checked(files=files, size_bytes=sum(file.stat().st_size for file in weights), served=served)


def _account(checked: _Checked) -> str:
    """A line that says what the model is."""
    languages = checked.served.found["languages"]
    known = f"{len(languages)} languages" if len(languages) > 5 else ", ".join(languages)
    return f"kind: transcribe, it turns speech into text; it knows {known}"
