"""Imports a model that turns text into speech, from a folder on this machine.

A worker's package registers a function under `infermesh.voice_models`. It is called, in a process of its own, as
`check(folder, *, progress)` with the folder to import, loads the model there, lets it speak, and returns {"files",
"voices", "left_out", "sample_rate"}: the model's files, relative to the folder, the voices that can be used, the
default first, those that cannot, and samples a second. For what it cannot serve, it raises an InfermeshError that
says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.fetching.origin import licence_beside, revision_of
from infermesh_client.model_import.files import copy_files, hash_folder
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import check_free_space, publish, staging_folder
from infermesh_client.model_import.tensor_models.importing import FOLDER, check_options
from infermesh_client.model_import.user_paths import explained, unstaged
from infermesh_client.model_import.workers.asking import ask_workers
from infermesh_client.model_import.workers.tools import package_versions
from infermesh_client.weight_files.account import disk_line
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_runtime.manifest.model_kind import DOES, SPEAK
from infermesh_runtime.manifest.model_manifest import Manifest, write_manifest

GROUP = "infermesh.voice_models"
_TOOLS = ("infermesh-client", "infermesh-worker-cpu", "infermesh-worker-xpu", "openvino", "onnxruntime", "phonemizer")
_SHOWN = 5


class VoiceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker found."""

    files: tuple[str, ...]
    """Relative to the folder; the graph is the first."""
    voices: tuple[str, ...]
    left_out: tuple[str, ...]
    sample_rate: int


@dataclass(frozen=True, slots=True)
class _Checked:
    facts: VoiceFacts
    refused: tuple[str, ...]
    size_bytes: int


def import_voice_model(
    path: Path, target: Path, view: ProgressView, options: ImportOptions, *, force: bool
) -> Manifest:
    """Copies a model into `target`, under the name of that folder, and returns its manifest. Raises InfermeshError."""
    path = path.absolute()
    checked = _check(path, options.home or target.parent.parent, view, options)
    facts = checked.facts
    check_free_space(target.parent, checked.size_bytes, what="the import")
    with explained(), staging_folder(target.parent, target.name) as folder, unstaged(folder, str(path), target):
        copy_files([(path / name, folder / FOLDER / name) for name in facts.files], view, title=f"Copying {path.name}")
        manifest = Manifest(
            name=target.name,
            source=str(path),
            format="onnx",
            kind=SPEAK,
            context_length=0,
            eos_token_ids=(),
            bos_token_id=None,
            size_bytes=(path / facts.files[0]).stat().st_size,
            created=datetime.now(UTC).replace(microsecond=0),
            revision=revision_of(path),
            licence=licence_beside(path),
            voices=facts.voices,
            sample_rate=facts.sample_rate,
            not_for=checked.refused,
            tools=package_versions(*_TOOLS),
            files=hash_folder(folder, view),
        )
        write_manifest(folder, manifest)
        publish(folder, target, view, force=force)
    for line in _account(facts):
        view.say(line)
    return manifest


def examine_voice_model(path: Path, root: Path, view: ProgressView, options: ImportOptions) -> Sequence[str]:
    """Makes the checks of an import, and says what it found; writes nothing. Raises InfermeshError."""
    checked = _check(path.absolute(), options.home or root.parent, view, options)
    return [f"source: {path.absolute()}", *_account(checked.facts), disk_line(root, checked.size_bytes)]


def _check(path: Path, home: Path, view: ProgressView, options: ImportOptions) -> _Checked:
    check_options(options, f"this one {DOES[SPEAK]}")
    missing = f"no worker is installed that {DOES[SPEAK]}; infermesh-worker-cpu does"
    served = ask_workers(GROUP, path, {}, home, view, missing=missing)
    facts = msgspec.convert(served.found, VoiceFacts)
    for name in facts.files:
        check_link(path / name)
        check_no_pointer(path / name)
    return _Checked(facts, served.refused, sum((path / name).stat().st_size for name in facts.files))


def _account(facts: VoiceFacts) -> Sequence[str]:
    """Lines that say what the model is."""
    more = f" and {len(facts.voices) - _SHOWN} more" if len(facts.voices) > _SHOWN else ""
    lines = [
        f"kind: {SPEAK}, it {DOES[SPEAK]} of {facts.sample_rate} samples a second",
        f"voices: {', '.join(facts.voices[:_SHOWN])}{more}",
    ]
    if facts.left_out:
        lines.append(f"left out, because their language cannot be turned into phonemes: {', '.join(facts.left_out)}")
    return lines
