"""What ends a model's answers, what its special tokens are, and how its answers are sampled: read from its files."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tokenizers import AddedToken, Tokenizer, models

from infermesh_client.model_import import convert
from infermesh_client.model_import.describing.answer_style import settle_style
from infermesh_client.model_import.describing.facts import read_facts
from infermesh_client.model_import.describing.generation import GenerationFacts, settle_generation
from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.model_manifest import read_manifest

NAMES = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot|>", "a", "<end>")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OWN_EOS = "{% for m in messages %}[{{ m.content }}]{{ eos_token }}{% endfor %}"
PLAIN_END = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"


@pytest.fixture
def view(tmp_path: Path) -> Iterator[ProgressView]:
    with (tmp_path / "progress.txt").open("w") as file:
        yield ProgressView(Console(file=file, width=200))


def settle(
    folder: Path, view: ProgressView, template: str | None = None, eos: tuple[str, ...] = (), **files: dict[str, Any]
) -> GenerationFacts:
    """The facts of a folder with a tokenizer of eight tokens; all but the last two are special."""
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(NAMES)}, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in NAMES[:-2]])
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {**files, "config": {"max_position_embeddings": 64, **files.get("config", {})}}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return settle_generation(folder, read_facts(folder, "safetensors"), "test", view, eos=eos)


def test_every_file_may_name_an_end(tmp_path: Path, view: ProgressView) -> None:
    facts = settle(
        tmp_path,
        view,
        CHATML,
        config={"eos_token_id": 7, "text_config": {"eos_token_id": [6]}},
        generation_config={"eos_token_id": [5, 7]},
        tokenizer_config={"eos_token": {"content": "</s>"}, "bos_token": "<s>", "pad_token": None},
    )
    assert facts.eos_token_ids == (5, 7, 6, 2, 4)
    assert facts.special_tokens == {"eos_token": "</s>", "bos_token": "<s>"}


def test_special_tokens_are_the_tokenizers_own(tmp_path: Path, view: ProgressView) -> None:
    facts = settle(tmp_path, view, OWN_EOS, config={"eos_token_id": [5, 2], "bos_token_id": 3})
    assert facts.special_tokens == {"bos_token": "<|im_start|>"}  # none of several ends is the tokenizer's own
    facts = settle(tmp_path, view, OWN_EOS, config={"eos_token_id": [5, 2]}, tokenizer_config={"eos_token": "</s>"})
    assert facts.special_tokens == {"eos_token": "</s>"}
    names = {"eos_token": "<|im_end|>", "additional_special_tokens": ["<s>"]}
    facts = settle(tmp_path, view, config={"eos_token_id": 5}, tokenizer_config={}, special_tokens_map=names)
    assert (facts.special_tokens, facts.eos_token_ids) == ({"eos_token": "<|im_end|>"}, (5, 4))


def test_end_may_be_known_from_the_template_alone(tmp_path: Path, view: ProgressView) -> None:
    assert settle(tmp_path, view, CHATML).eos_token_ids == (4,)


@pytest.mark.parametrize("template", [None, PLAIN_END])
def test_model_without_an_end_is_refused_unless_told(tmp_path: Path, view: ProgressView, template: str | None) -> None:
    with pytest.raises(InvalidArgument, match="name the token with --eos TOKEN"):
        settle(tmp_path, view, template)
    assert settle(tmp_path, view, template, eos=("<end>", "6")).eos_token_ids == (7, 6)
    with pytest.raises(InvalidArgument, match="--eos '<nothing>' is no token"):
        settle(tmp_path, view, template, eos=("<nothing>",))


def test_sampling_defaults(tmp_path: Path, view: ProgressView) -> None:
    stored = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_new_tokens": 512, "do_sample": True, "min_p": None}
    facts = settle(tmp_path, view, config={"eos_token_id": 1}, generation_config=stored)
    assert facts.defaults == GenerationDefaults(temperature=0.6, top_p=0.95, top_k=20, max_new_tokens=512)
    assert settle(tmp_path, view, config={"eos_token_id": 1}, generation_config={}).defaults is None


def test_sampling_defaults_out_of_range_are_told(tmp_path: Path, view: ProgressView) -> None:
    stored = {"temperature": 9, "top_k": -1, "top_p": "x", "repetition_penalty": 1.1}
    facts = settle(tmp_path, view, config={"eos_token_id": 1}, generation_config=stored)
    assert facts.defaults == GenerationDefaults(top_k=0, repetition_penalty=1.1)
    said = (tmp_path / "progress.txt").read_text()
    assert "temperature = 9" in said
    assert "top_p = 'x'" in said


def test_gguf_says_it_all_in_its_manifest(
    tmp_path: Path,
    models_root: Path,
    view: ProgressView,
    monkeypatch: pytest.MonkeyPatch,
    make_gguf: Callable[..., Path],
) -> None:
    monkeypatch.setattr(convert, "entry_points", lambda group: [])
    source = make_gguf(tmp_path / "tiny.gguf", add_sampling_temp=0.5, add_sampling_top_k=9)
    manifest = import_model(str(source), "tiny", models_root, view)
    assert manifest.eos_token_ids == (0, 2)
    assert manifest.special_tokens == {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}  # not the lowest id's
    assert manifest.generation == GenerationDefaults(temperature=0.5, top_k=9)
    assert read_manifest(models_root / "tiny") == manifest


def test_template_that_does_not_compile_is_refused(
    tmp_path: Path, models_root: Path, view: ProgressView, make_gguf: Callable[..., Path]
) -> None:
    broken = make_gguf(tmp_path / "tiny.gguf", add_chat_template="\n{% for m in messages %}{{ m.content }")
    with pytest.raises(InvalidArgument, match="chat template has a syntax error in line 2"):
        import_model(str(broken), "tiny", models_root, view)
    assert not (models_root / "tiny").exists()


def test_how_it_answers_is_read_from_its_template_unless_the_user_says_it(tmp_path: Path, view: ProgressView) -> None:
    calls = "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    facts = settle(tmp_path, view, CHATML.replace("<|im_end|>", calls + "<|im_end|>") + "<think>")
    assert facts.answer_style == AnswerStyle("hermes", "think")
    assert settle_style(facts.answer_style, ImportOptions()) == AnswerStyle("hermes", "think")
    told = ImportOptions(tool_format="pythonic", reasoning="none")
    assert settle_style(facts.answer_style, told) == AnswerStyle("pythonic", "")
    assert settle_style(None, told) == AnswerStyle("pythonic", "")
    assert settle_style(None, ImportOptions()) is None
    assert settle_style(AnswerStyle(), ImportOptions()) is None


@pytest.mark.parametrize("options", [ImportOptions(tool_format="xml"), ImportOptions(reasoning="hmm")])
def test_a_style_that_is_not_known_is_refused_at_once(
    tmp_path: Path, view: ProgressView, options: ImportOptions
) -> None:
    with pytest.raises(InvalidArgument, match=r"must be one of .*none"):
        import_model(str(tmp_path / "missing.gguf"), "m", tmp_path, view, options)
