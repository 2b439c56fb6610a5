"""Takes Hugging Face and OpenVINO IR folders from this machine."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from infermesh_client.model_import.checks import check_link
from infermesh_client.model_import.describing.facts import (
    ModelFacts,
    check_template,
    read_facts,
    read_json,
    stored_template,
    write_chat_template,
)
from infermesh_client.model_import.describing.generation import GenerationFacts, settle_generation
from infermesh_client.model_import.describing.image_facts import check_image_tokens
from infermesh_client.model_import.fetching.fetched import CHAT_TEMPLATE, COPIES, Fetched, FetchOptions
from infermesh_client.model_import.fetching.origin import licence_beside, revision_of
from infermesh_client.model_import.files import copy_files
from infermesh_client.model_import.hugging_face.folder import check_folder as check_hugging_face
from infermesh_client.model_import.hugging_face.heads import untie_own_head
from infermesh_client.model_import.hugging_face.tensors import write_index
from infermesh_client.model_import.layout import WEIGHTS, Layout, plan_layout
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.model_import.staging import check_free_space
from infermesh_client.model_import.user_paths import unstaged
from infermesh_client.model_import.workers.checks import check_with_workers
from infermesh_client.tokenizer_files.settle import settle_tokenizer, tokenizer_sources
from infermesh_client.weight_files.account import facts_lines, safetensors_lines
from infermesh_client.weight_files.inspect import inspect_safetensors, inspect_tokenizer, named
from infermesh_client.weight_files.pointers import check_no_pointer


def fetch_folder(path: Path, folder: Path, view: ProgressView, options: FetchOptions) -> Fetched:
    """Takes a folder of this machine; `path` is absolute."""
    layout, checked = check_folder(path, view, options)
    options.before_copy(layout.format)
    check_free_space(folder, COPIES * checked.size_bytes, what="the import")
    pairs = [(path / name, folder / target) for name, target in layout.files.items()]
    copy_files(pairs, view, title=f"Copying {path.name}")
    finish_folder(folder, layout, view)
    return checked


def finish_folder(folder: Path, layout: Layout, view: ProgressView) -> None:
    """Writes what the model's folder needs beside the files that were copied: index, tokenizer, chat template."""
    write_index(folder, layout.files)
    if layout.format == "safetensors" and untie_own_head(folder):
        view.say("The output head differs from the embedding, so config.json no longer says that they are the same")
    settle_tokenizer(folder)
    write_chat_template(folder)


def check_folder(path: Path, view: ProgressView, options: FetchOptions) -> tuple[Layout, Fetched]:
    """Checks a folder of this machine; writes nothing."""
    names = [entry.name for entry in path.iterdir() if entry.is_file()]
    layout = plan_layout(names, lambda name: (path / name).read_bytes(), place=str(path))
    for name in layout.files:
        check_link(path / name)
        check_no_pointer(path / name)
    facts = check_small_files(path, layout)
    licence = licence_beside(path)
    weights = check_weights(path, layout.files)
    if layout.format == "safetensors":
        check_hugging_face(path, names, layout.files, str(path), view.say)
    lines = [*weights, *account_of(path, layout, facts)]
    return layout, Fetched(
        label=str(path),
        facts=facts,
        generation=settle_small_files(path, layout, facts, str(path), view, eos=options.eos),
        revision=revision_of(path),
        licence=licence,
        account=(*lines, f"licence: {licence or 'not named'}"),
        size_bytes=sum((path / name).stat().st_size for name in layout.files),
    )


def check_small_files(folder: Path, layout: Layout) -> ModelFacts:
    """Reads what there is beside the weights. Raises InvalidArgument that names the file that cannot be right."""
    with named(folder):
        facts = read_facts(folder, layout.format)
        if (template := stored_template(folder)) is not None:
            check_template(template)
    if "tokenizer.json" in layout.files or not tokenizer_sources(layout.files):
        inspect_tokenizer(folder / "tokenizer.json")
    return facts


def settle_small_files(
    folder: Path, layout: Layout, facts: ModelFacts, label: str, view: ProgressView, *, eos: Sequence[str]
) -> GenerationFacts:
    """Settles how answers are made and end with copies of a folder's small files, before its weights are touched."""
    with tempfile.TemporaryDirectory() as name, unstaged(Path(name), label, folder):
        scratch = Path(name)
        for file in layout.files:
            if not file.endswith(WEIGHTS):
                shutil.copyfile(folder / file, scratch / file)
        settle_tokenizer(scratch)
        check_image_tokens(scratch, facts.images)
        write_chat_template(scratch)
        return settle_generation(scratch, facts, label, view, eos=eos)


def check_weights(folder: Path, files: Mapping[str, str]) -> Sequence[str]:
    """Checks the headers of safetensors; returns lines for the account. Raises InvalidArgument that names the file."""
    paths = [folder / name for name in files if name.endswith(".safetensors")]
    if not paths:
        return ()
    architecture = read_json(folder / "config.json").get("model_type", "not named")
    return safetensors_lines(inspect_safetensors(paths), str(architecture))


def account_of(folder: Path, layout: Layout, facts: ModelFacts) -> Sequence[str]:
    """The lines that do not come from weights."""
    stored = (folder / name for name in ("tokenizer_config.json", "chat_template.json"))
    chat = (folder / CHAT_TEMPLATE).is_file() or any(
        read_json(path).get("chat_template") for path in stored if path.is_file()
    )
    lines = facts_lines(facts.context_length, facts.eos_token_ids, chat=chat, stated_length=facts.stated_context_length)
    images = ("images: taken in conversations on worker-xpu",) if facts.images is not None else ()
    return (*lines, *images, *check_with_workers(folder, layout.format))
