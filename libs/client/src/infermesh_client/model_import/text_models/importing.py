"""Imports a model that turns texts into vectors or scores, from a folder on this machine."""

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
from infermesh_client.model_import.tensor_models.importing import check_options
from infermesh_client.model_import.text_models.facts import read_facts, stated_length
from infermesh_client.model_import.text_models.kind import export_graph, text_kind
from infermesh_client.model_import.text_models.serving import Served, find_worker
from infermesh_client.model_import.user_paths import explained, unstaged
from infermesh_client.model_import.workers.tools import package_versions
from infermesh_client.weight_files.account import disk_line
from infermesh_client.weight_files.inspect import inspect_safetensors, inspect_tokenizer
from infermesh_client.weight_files.pointers import check_no_pointer
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import DOES, EMBED, ModelKind
from infermesh_runtime.manifest.model_manifest import Manifest, ModelFormat, write_manifest
from infermesh_runtime.manifest.text_encoder import EncoderFacts

_SMALL = ("config.json", "tokenizer.json", "tokenizer_config.json")
_TOOLS = ("infermesh-client", "infermesh-worker-cpu", "infermesh-worker-xpu", "openvino", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a folder came from, for its manifest."""

    label: str
    revision: str
    licence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What is known of a folder before anything is copied."""

    kind: ModelKind
    format: ModelFormat
    files: Sequence[Path]
    weights: Sequence[Path]
    facts: EncoderFacts
    served: Served

    @property
    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.weights)


def import_text_model(
    path: Path, target: Path, view: ProgressView, options: ImportOptions, *, force: bool, origin: Origin | None = None
) -> Manifest:
    """Copies a model into `target`, under the name of that folder, and returns its manifest.

    `origin`: where the folder was downloaded from; None: it is the source itself. Raises InfermeshError.
    """
    path = path.absolute()
    origin = origin or Origin(label=str(path), revision=revision_of(path), licence=licence_beside(path))
    checked = _check(path, options.home or target.parent.parent, view, options)
    check_free_space(target.parent, checked.size_bytes, what="the import")
    with explained(), staging_folder(target.parent, target.name) as folder, unstaged(folder, origin.label, target):
        pairs = [(file, folder / file.relative_to(path)) for file in checked.files]
        copy_files(pairs, view, title=f"Copying {path.name}")
        manifest = Manifest(
            name=target.name,
            source=origin.label,
            format=checked.format,
            kind=checked.kind,
            context_length=checked.served.context_length,
            eos_token_ids=(),
            bos_token_id=None,
            size_bytes=checked.size_bytes,
            created=datetime.now(UTC).replace(microsecond=0),
            revision=origin.revision,
            licence=origin.licence,
            encoder=checked.facts,
            not_for=checked.served.refused,
            tools=package_versions(*_TOOLS),
            files=hash_folder(folder, view),
        )
        write_manifest(folder, manifest)
        publish(folder, target, view, force=force)
    for line in _account(checked):
        view.say(line)
    return manifest


def examine_text_model(path: Path, root: Path, view: ProgressView, options: ImportOptions) -> Sequence[str]:
    """Makes the checks of an import, and says what it found; writes nothing. Raises InfermeshError."""
    checked = _check(path.absolute(), options.home or root.parent, view, options)
    return [f"source: {path.absolute()}", *_account(checked), disk_line(root, checked.size_bytes)]


def _check(path: Path, home: Path, view: ProgressView, options: ImportOptions) -> _Checked:
    kind = text_kind(path)
    if kind is None:
        raise InvalidArgument(f"{path} is no model that turns texts into vectors or scores")
    check_options(options, f"this one {DOES[kind]}")
    weights = sorted(path.glob("*.safetensors"))
    graph = export_graph(path)
    model_format: ModelFormat = "safetensors"
    if not weights and graph is not None:
        weights, model_format = sorted(graph.parent.glob(f"{graph.name}*")), "onnx"
    if not (path / "tokenizer.json").is_file():
        raise InvalidArgument(
            f"{path} has no tokenizer.json; transformers' AutoTokenizer writes it with save_pretrained"
        )
    files = [*(path / name for name in _SMALL if (path / name).is_file()), *weights]
    for file in files:
        check_link(file)
        check_no_pointer(file)
    inspect_tokenizer(path / "tokenizer.json")
    if model_format == "safetensors":
        inspect_safetensors(weights)
    facts = read_facts(path, kind)
    served = find_worker(path, kind, stated_length(path), home, view)
    facts = msgspec.structs.replace(facts, dimensions=served.dimensions)
    return _Checked(kind=kind, format=model_format, files=files, weights=weights, facts=facts, served=served)


def _account(checked: _Checked) -> Sequence[str]:
    """Lines that say what the model is."""
    facts = checked.facts
    lines = [f"kind: {checked.kind}, it {DOES[checked.kind]} of up to {checked.served.context_length} tokens"]
    if checked.kind == EMBED:
        length = "of length 1" if facts.normalize else "of any length"
        lines.append(f"vectors: {facts.dimensions} dimensions, {length}; pooling: {facts.pooling}")
    if facts.prompts:
        lines.append(f"prompts: {', '.join(facts.prompts)}")
    return lines
