"""Imports a model: fetches it, converts it, hashes its files and publishes the folder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infermesh_client.model_import.checks import check_ir
from infermesh_client.model_import.convert import convert_model
from infermesh_client.model_import.fetch import Fetched, fetch
from infermesh_client.model_import.files import hash_folder
from infermesh_client.model_import.generation import GenerationFacts, settle_generation
from infermesh_client.model_import.precision import WeightPrecision
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import OpenVinoFolder, check_name, parse_source
from infermesh_client.model_import.staging import ModelExists, explain_os_error, publish, staging_folder
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.model_manifest import Manifest, ModelFormat, write_manifest


def import_model(
    source: str,
    name: str,
    root: Path,
    view: ProgressView,
    *,
    weights: WeightPrecision | None = None,
    force: bool = False,
    eos: Sequence[str] = (),
) -> Manifest:
    """Imports a model from `source` (see source.ACCEPTED) into `root`/`name` and returns its manifest.

    The finished model appears in one rename. Until then, and after a failure or an interruption, `root` is unchanged.
    `weights` is the precision that converters compress to; None lets each converter choose. `force` replaces a model of
    this name. `eos` are tokens (texts or ids) that end its answers beside those that it names. Raises InfermeshError.
    """
    target, parsed = root / check_name(name), parse_source(source)
    if weights is not None and isinstance(parsed, OpenVinoFolder):
        raise InvalidArgument("--weights cannot be given with an OpenVINO IR folder, whose weights are not changed")
    if target.exists() and not force:
        raise ModelExists(f"{root} already has a model {name!r}; use --force to replace it")
    try:
        with staging_folder(root, name) as folder:
            fetched = fetch(parsed, folder, view)
            if fetched.facts.format == "openvino":
                check_ir(folder / "openvino")
            generation = settle_generation(folder, fetched.facts, fetched.label, view, eos=eos)
            _convert(folder, weights, view)
            manifest = _describe(folder, name, fetched, generation, view)
            write_manifest(folder, manifest)
            publish(folder, target, force=force)
            return manifest
    except OSError as error:
        raise explain_os_error(error) from error


def _convert(folder: Path, weights: WeightPrecision | None, view: ProgressView) -> None:
    converted = convert_model(folder, weights, view)
    if not converted and not (folder / "openvino").is_dir():
        view.say(
            "No converter is installed, so the model is not converted; infermesh-worker-cpu has the one for OpenVINO"
        )


def _describe(folder: Path, name: str, fetched: Fetched, generation: GenerationFacts, view: ProgressView) -> Manifest:
    files, facts = hash_folder(folder, view), fetched.facts
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
        files=files,
    )


def _is_weight(path: str, model_format: ModelFormat) -> bool:
    return path.endswith(
        {"gguf": ".gguf", "safetensors": ".safetensors", "openvino": "openvino_model.bin"}[model_format]
    )
