"""Imports a model of tensors from its files on this machine."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.fetching.origin import licence_beside
from infermesh_client.model_import.files import copy_files, hash_folder
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import check_free_space, publish, staging_folder
from infermesh_client.model_import.tensor_models.describe import TensorModelFacts, account, describe
from infermesh_client.model_import.tensor_models.trust import check_trust
from infermesh_client.model_import.user_paths import explained, unstaged
from infermesh_client.model_import.workers.tools import package_versions
from infermesh_client.weight_files.account import disk_line
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import BatchLimits
from infermesh_runtime.manifest.model_manifest import Manifest, write_manifest

FOLDER = "model"
"""Folder of a model folder that holds the files."""


_TOOLS = ("infermesh-client", "infermesh-worker-cpu", "infermesh-worker-xpu", "openvino", "torch", "onnxruntime")


def import_tensors(
    graph: Path, target: Path, view: ProgressView, options: ImportOptions, *, force: bool, label: str = ""
) -> Manifest:
    """Copies a model into `target`, under the name of that folder, and returns its manifest. Raises InfermeshError.

    `label`: the source, for the manifest; empty: the path.
    """
    check_options(options)
    check_trust(graph, options)
    graph, home = graph.absolute(), options.home or target.parent.parent
    facts = describe(graph, home, view)
    sources = [graph.parent / name for name in facts.files]
    for source in sources:
        check_link(source)
    size_bytes = sum(source.stat().st_size for source in sources)
    check_free_space(target.parent, size_bytes, what="the import")
    with explained(), staging_folder(target.parent, target.name) as folder, unstaged(folder, str(graph), target):
        pairs = [(graph.parent / name, folder / FOLDER / name) for name in facts.files]
        copy_files(pairs, view, title=f"Copying {graph.name}")
        manifest = Manifest(
            name=target.name,
            source=label or str(graph),
            format=facts.format,
            kind="infer",
            context_length=0,
            eos_token_ids=(),
            bos_token_id=None,
            size_bytes=size_bytes,
            created=datetime.now(UTC).replace(microsecond=0),
            licence=licence_beside(graph.parent),
            inputs=facts.inputs,
            outputs=facts.outputs,
            batching=_batching(facts, options),
            not_for=facts.not_for,
            tools=package_versions(*_TOOLS),
            files=hash_folder(folder, view),
        )
        write_manifest(folder, manifest)
        publish(folder, target, view, force=force)
    for line in account(facts):
        view.say(line)
    return manifest


def examine_tensors(
    graph: Path, root: Path, view: ProgressView, options: ImportOptions, *, label: str = ""
) -> Sequence[str]:
    """Makes the checks of an import, and says what it found; writes nothing. Raises InfermeshError."""
    check_options(options)
    check_trust(graph, options)
    facts = describe(graph.absolute(), options.home or root.parent, view)
    size_bytes = sum((graph.parent / name).stat().st_size for name in facts.files)
    return [f"source: {label or graph.absolute()}", *account(facts), disk_line(root, size_bytes)]


def _batching(facts: TensorModelFacts, options: ImportOptions) -> BatchLimits | None:
    """How its requests run together: as its worker found, unless the user says otherwise. Raises InvalidArgument."""
    most, delay_ms = options.max_batch, options.batch_delay_ms
    if facts.batching is None and (most or 1) > 1:
        raise InvalidArgument(
            "--max-batch needs a model whose inputs and outputs all have an open first dimension, and whose rows do "
            "not depend on one another; this one is none"
        )
    if facts.batching is None or most == 1:
        return None
    return BatchLimits(max_size=most or facts.batching.max_size, max_delay_ms=delay_ms)


def check_options(options: ImportOptions, this: str = "this one takes tensors") -> None:
    """Raises InvalidArgument for options that are about models that generate text. `this` says what this one does."""
    given = {
        "--weights": options.weights,
        "--link": options.link,
        "--include": options.include,
        "--eos": options.eos,
        "--tool-format": options.tool_format,
        "--reasoning": options.reasoning,
    }
    if wrong := [name for name, value in given.items() if value]:
        raise InvalidArgument(f"{', '.join(wrong)}: only for models that generate text, and {this}")
