"""A folder without tokenizer.json gets one, and tokenizer_config.json says what is special and surrounds a text."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from infermesh_client.model_import.layout import plan_layout
from infermesh_client.tokenizer_files.settle import settle_tokenizer
from infermesh_client.tokenizer_files.tiktoken import is_tiktoken, read_tiktoken
from infermesh_runtime.errors import InvalidArgument

MODEL = json.loads(Path(__file__).with_name("sentencepiece.json").read_text())["bpe"]["model"]
RANKS = [bytes([byte]) for byte in range(256)] + [b"he", b"ll", b"hell", b" hell", "é".encode()]
TIKTOKEN = b"\n".join(base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(RANKS))


def settled(folder: Path, **config: Any) -> Tokenizer:
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    settle_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def write_tokenizer(folder: Path) -> None:
    """Three words, none of them special, and nothing around a text."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("name", ["tokenizer.model", "llama.tiktoken"])
def test_layout_takes_what_a_tokenizer_can_be_made_of(name: str) -> None:
    names = ["config.json", "model.safetensors", name]
    assert name in plan_layout(names, lambda _: b"", place="x").files
    assert name not in plan_layout([*names, "tokenizer.json"], lambda _: b"", place="x").files
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json"):
        plan_layout(names[:2], lambda _: b"", place="x")


def test_tokenizer_model_is_converted(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(base64.b64decode(MODEL))
    tokenizer = settled(tmp_path)
    assert tokenizer.encode("hello world").tokens == ["<s>", "▁hello", "▁world"]
    (tmp_path / "tokenizer.json").unlink()
    assert settled(tmp_path, add_bos_token=False).encode("hello world").tokens == ["▁hello", "▁world"]


def test_tiktoken_is_converted(tmp_path: Path) -> None:
    assert is_tiktoken(TIKTOKEN)
    assert not is_tiktoken(base64.b64decode(MODEL))
    (tmp_path / "tokenizer.model").write_bytes(TIKTOKEN)
    added = {"261": {"content": "<|end|>", "special": True}, "262": {"content": "<tool>", "special": False}}
    tokenizer = settled(tmp_path, added_tokens_decoder=added, bos_token="<|end|>", add_bos_token=True)
    assert tokenizer.encode("hello hell<tool>é").ids == [261, 258, 111, 259, 262, 260]
    assert tokenizer.decode([258, 111, 259, 261]) == "hello hell"


def test_how_text_is_split_depends_on_the_model() -> None:
    digits = base64.b64encode(b"12") + b" 256"
    llama, qwen = (
        read_tiktoken(TIKTOKEN.partition(b"\naGU=")[0] + b"\n" + digits, kind) for kind in ("llama", "qwen2")
    )
    assert llama.encode("12").ids == [256]
    assert qwen.encode("12").ids == [49, 50]


def test_damaged_ranks_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="damaged"):
        read_tiktoken(TIKTOKEN + b"\n!!! 300", "")


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ({}, [3]),
        ({"add_bos_token": True, "bos_token": "<s>"}, [1, 3]),
        (
            {"add_bos_token": True, "bos_token": {"content": "<s>"}, "add_eos_token": True, "eos_token": "</s>"},
            [1, 3, 2],
        ),
        ({"add_bos_token": True}, [3]),
        ({"add_bos_token": None, "bos_token": "<s>"}, [3]),
    ],
)
def test_flags_decide_what_surrounds_a_text(tmp_path: Path, config: dict[str, Any], ids: list[int]) -> None:
    write_tokenizer(tmp_path)
    tokenizer = settled(tmp_path, **config)
    assert tokenizer.encode("a").ids == ids
    if "add_bos_token" in config:
        assert settled(tmp_path, **(config | {"add_bos_token": False, "add_eos_token": False})).encode("a").ids == [3]


def test_named_tokens_are_special(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    assert settled(tmp_path).decode([3, 2]) == "a </s>"
    assert settled(tmp_path, eos_token="</s>").decode([3, 2]) == "a"


def test_tokenizer_that_needs_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    before = (tmp_path / "tokenizer.json").read_bytes()
    settled(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    assert (tmp_path / "tokenizer.json").read_bytes() == before


def test_ids_beyond_the_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(TIKTOKEN)
    with pytest.raises(InvalidArgument, match="the id 999, where it cannot be"):
        settled(tmp_path, added_tokens_decoder={"999": {"content": "<x>", "special": True}})
