"""Imports a model: fetches it, converts it, hashes its files, tries it and publishes the folder."""

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infermesh_client.model_import.checks import check_ir
from infermesh_client.model_import.convert import Conversion, convert_model, prepare
from infermesh_client.model_import.describing.answer_style import check_style, settle_style
from infermesh_client.model_import.fetching.fetch import examine, fetch
from infermesh_client.model_import.fetching.fetched import Fetched, FetchOptions
from infermesh_client.model_import.files import hash_folder
from infermesh_client.model_import.folder_models import ROOMS
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.precision import WeightPrecision
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import (
    FolderModel,
    HubModel,
    OpenVinoFolder,
    TensorModel,
    check_name,
    parse_source,
)
from infermesh_client.model_import.speech_models.repository import (
    examine_speech_repository,
    find_speech_repository,
    import_speech_repository,
)
from infermesh_client.model_import.staging import ModelExists, publish, staging_folder
from infermesh_client.model_import.tensor_models.importing import examine_tensors, import_tensors
from infermesh_client.model_import.tensor_models.package_download import unpacked
from infermesh_client.model_import.tensor_models.package_file import PackageFile
from infermesh_client.model_import.tensor_models.trust import check_trust
from infermesh_client.model_import.text_models.repository import examine_repository, find_repository, import_repository
from infermesh_client.model_import.user_paths import explained, unstaged
from infermesh_client.model_import.workers.prove import prove
from infermesh_client.model_import.workers.tools import tool_versions
from infermesh_client.weight_files.account import context_note, disk_line
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_manifest import Manifest, ModelFormat, write_manifest


def import_model(
    source: str,
    name: str,
    root: Path,
    view: ProgressView,
    options: ImportOptions | None = None,
    *,
    force: bool = False,
) -> Manifest:
    """Imports a model from `source` (see source.ACCEPTED) into `root`/`name` and returns its manifest.

    The finished model appears in one rename. Until then, and after a failure or an interruption, `root` is unchanged
    but for downloads that the same import goes on with. `force` replaces a model of this name. Raises InfermeshError.
    """
    options = options or ImportOptions()
    check_style(options)
    target, parsed = root / check_name(name), parse_source(source)
    if isinstance(parsed, OpenVinoFolder) and options.weights is not None:
        raise InvalidArgument("--weights cannot be given with an OpenVINO IR folder, whose weights are not changed")
    if target.exists() and not force:
        raise ModelExists(f"{root} already has a model {name!r}; use --force to replace it")
    if isinstance(parsed, FolderModel):
        return ROOMS[type(parsed)].import_model(parsed.path, target, view, options, force=force)
    if isinstance(parsed, TensorModel):
        return import_tensors(parsed.graph, target, view, options, force=force)
    if isinstance(parsed, PackageFile):
        check_trust(parsed.path, options)  # before the download
        with unpacked(parsed, view) as model:
            return import_tensors(model.graph, target, view, options, force=force, label=model.label)
    if isinstance(parsed, HubModel) and (done := _from_hub(parsed, target, view, options, force=force)) is not None:
        return done
    home = options.home or root.parent

    def before_copy(model_format: ModelFormat) -> None:
        prepare(model_format, home, view)

    wanted = FetchOptions(link=options.link, include=options.include, eos=options.eos, before_copy=before_copy)
    with explained(), staging_folder(root, name) as folder, unstaged(folder, source, target):
        fetched = fetch(parsed, folder, view, wanted)
        if fetched.facts.format == "openvino":
            check_ir(folder / "openvino")
        conversion = _convert(folder, fetched, options.weights, home, view)
        manifest = _describe(folder, name, fetched, conversion, view)
        style = settle_style(fetched.generation.answer_style, options)
        manifest = msgspec.structs.replace(manifest, answer_style=style)
        write_manifest(folder, manifest)
        if options.verify:
            first, *others = prove(folder, manifest.format, home, view) or (None,)
            manifest = msgspec.structs.replace(manifest, proof=first, other_proofs=tuple(filter(None, others)))
            write_manifest(folder, manifest)
        publish(folder, target, view, force=force)
        return manifest


def examine_model(source: str, root: Path, view: ProgressView, options: ImportOptions | None = None) -> Sequence[str]:
    """Checks a source as an import does, and returns what it found, line by line; writes nothing to `root`.

    Raises InfermeshError, as the import would.
    """
    options, parsed = options or ImportOptions(), parse_source(source)
    if isinstance(parsed, FolderModel):
        return ROOMS[type(parsed)].examine_model(parsed.path, root, view, options)
    if isinstance(parsed, TensorModel):
        return examine_tensors(parsed.graph, root, view, options)
    if isinstance(parsed, PackageFile):
        check_trust(parsed.path, options)
        with unpacked(parsed, view) as model:
            return examine_tensors(model.graph, root, view, options, label=model.label)
    if isinstance(parsed, HubModel) and (lines := _examine_hub(parsed, root, options)) is not None:
        return lines
    with explained(), tempfile.TemporaryDirectory() as scratch, unstaged(Path(scratch), source, root):
        wanted = FetchOptions(link=options.link, include=options.include, eos=options.eos)
        found = examine(parsed, Path(scratch), view, wanted)
    disk = [disk_line(root, found.size_bytes)] if found.size_bytes else []
    return [f"source: {found.label}", *found.account, *disk]


def _from_hub(
    model: HubModel, target: Path, view: ProgressView, options: ImportOptions, *, force: bool
) -> Manifest | None:
    """Imports a model from the Hub if it is of a kind that is not converted; None if it is another one."""
    if options.link:
        return None
    if (texts := find_repository(model)) is not None:
        return import_repository(model, texts, target, view, options, force=force)
    if (speech := find_speech_repository(model)) is not None:
        return import_speech_repository(model, speech, target, view, options, force=force)
    return None


def _examine_hub(model: HubModel, root: Path, options: ImportOptions) -> Sequence[str] | None:
    """Says what such an import would download; None for another model."""
    if (texts := find_repository(model)) is not None:
        return examine_repository(model, texts, root, options)
    if (speech := find_speech_repository(model)) is not None:
        return examine_speech_repository(model, speech, root, options)
    return None


def _convert(
    folder: Path, fetched: Fetched, weights: WeightPrecision | None, home: Path, view: ProgressView
) -> Conversion:
    conversion = convert_model(folder, fetched.facts.format, weights, home, view)
    if not conversion.done and not conversion.refused and not (folder / "openvino").is_dir():
        view.say(
            "No converter is installed, so the model is not converted; infermesh-worker-cpu has the one for OpenVINO"
        )
    return conversion


def _describe(
    folder: Path,
    name: str,
    fetched: Fetched,
    conversion: Conversion,
    view: ProgressView,
) -> Manifest:
    files, facts, generation = hash_folder(folder, view), fetched.facts, fetched.generation
    if note := context_note(facts.context_length, facts.stated_context_length):
        view.say(f"The context is {facts.context_length} tokens{note}")
    return Manifest(
        name=name,
        source=fetched.label,
        format=facts.format,
        context_length=facts.context_length,
        eos_token_ids=generation.eos_token_ids,
        bos_token_id=facts.bos_token_id,
        size_bytes=sum(entry.size_bytes for path, entry in files.items() if _is_weight(path, facts.format)),
        created=datetime.now(UTC).replace(microsecond=0),
        generation=generation.defaults,
        special_tokens=generation.special_tokens,
        revision=fetched.revision,
        licence=fetched.licence,
        tools=tool_versions(conversion),
        not_for=tuple(conversion.refused),
        images=facts.images,
        files=files,
    )


def _is_weight(path: str, model_format: ModelFormat) -> bool:
    return path.endswith(
        {"gguf": ".gguf", "safetensors": ".safetensors", "openvino": "openvino_model.bin"}[model_format]
    )
