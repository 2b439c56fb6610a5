"""vocab.json and merges.txt alone give the ids that transformers gives.

byte_bpe.json has a small vocabulary, texts, and transformers' (5.23) ids of them for several configurations.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from infermesh_client.model_import.layout import plan_layout
from infermesh_client.tokenizer_files.settle import settle_tokenizer
from infermesh_runtime.errors import InvalidArgument


@cache
def stored() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(__file__).with_name("byte_bpe.json").read_text())
    return document


def write(folder: Path, case: dict[str, Any], merges: str | None = None) -> None:
    (folder / "vocab.json").write_text(json.dumps(stored()["vocab"]))
    (folder / "merges.txt").write_text(merges or "\n".join(["#version: 0.2", *stored()["merges"], ""]))
    (folder / "tokenizer_config.json").write_text(json.dumps(case["config"]))
    (folder / "config.json").write_text(json.dumps({"model_type": case["model_type"]}))
    if case["added"]:
        (folder / "added_tokens.json").write_text(json.dumps(case["added"]))


@pytest.mark.parametrize("name", ["gpt2", "gpt2_prefix", "qwen2", "qwen2_old", "neox", "by_model_type"])
def test_ids_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    case, texts = stored()["cases"][name], stored()["texts"]
    write(tmp_path, case)
    settle_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [each.ids for each in tokenizer.encode_batch(texts)] == case["ids"]
    assert [tokenizer.decode(ids, skip_special_tokens=True) for ids in case["ids"][-4:]] == case["plain"]


def test_layout_takes_both_files_or_none() -> None:
    names = ["config.json", "model.safetensors", "vocab.json", "merges.txt", "added_tokens.json"]
    taken = plan_layout(names, lambda _: b"", place="x").files
    assert set(names) == set(taken)
    assert "vocab.json" not in plan_layout([*names, "tokenizer.json"], lambda _: b"", place="x").files
    for lacking in ("vocab.json", "merges.txt"):
        with pytest.raises(InvalidArgument, match=r"no tokenizer\.json"):
            plan_layout([name for name in names if name != lacking], lambda _: b"", place="x")


@pytest.mark.parametrize(
    ("config", "merges", "told"),
    [
        ({"tokenizer_class": "RobertaTokenizer"}, None, "the tokenizer_class 'RobertaTokenizer' is none of those"),
        ({}, None, "the tokenizer of the model type 'odd' is none of those"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "#version: 0.2\nh e\nhe\n", r"line 3 of merges\.txt is not two tokens"),
        ({"tokenizer_class": "GPT2Tokenizer"}, "nothing here\n", r"merges\.txt does not fit to vocab\.json"),
    ],
)
def test_what_is_not_known_or_damaged_is_refused(
    tmp_path: Path, config: dict[str, Any], merges: str | None, told: str
) -> None:
    write(tmp_path, {"config": config, "model_type": "odd", "added": None}, merges)
    with pytest.raises(InvalidArgument, match=told):
        settle_tokenizer(tmp_path)
