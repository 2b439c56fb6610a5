"""GGUF metadata: tokeniser, template and configuration out of files that the package gguf wrote."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import openvino_genai as genai
import pytest
from tokenizers import Tokenizer

from infermesh_client.gguf_metadata.reader import read_gguf
from infermesh_client.gguf_metadata.tokenizer import build_tokenizer
from infermesh_client.gguf_metadata.write import end_token_ids, write_metadata
from infermesh_runtime.errors import InvalidArgument

TEXTS = [
    "Hello, world!",
    "  leading,  double   and trailing  ",
    "a\tb\n\n\nc\r\nd   e\n   f",
    "12345 3.14159 ½ ² ٣٤ 一二三 Ⅷ",
    "def f(x):\n    return {'a': x**2}  # comment\n\n\n",
    "Ünïcödé café e\u0301 Straße ﬁ",
    "日本語のテキストと中文混合 한국어 العربية हिन्दी ไทย",
    "emoji 😀👩‍👩‍👧‍👦🇫🇷 done",
    "I'm you're we'VE they'll it'S 'd'",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>x",
    "\u00a0nbsp\u2003emsp\u200bzwsp\x00\x01\x7f",
    "x=1;y=2;;z===3!!!???...",
    " " * 37 + "\n" * 5 + "1" * 20,
]


def test_byte_level_bpe_merges_and_round_trips(tiny_gguf: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(tiny_gguf).tokenizer)
    assert tokenizer.encode("hello").tokens == ["hell", "o"]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_control_tokens_are_recognised_in_text_and_skipped_in_output(tiny_gguf: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(tiny_gguf).tokenizer)
    ids = tokenizer.encode("<|im_start|>he<|im_end|>").ids
    assert (ids[0], ids[-1]) == (1, 2)
    assert tokenizer.decode(ids) == "he"


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("smollm", ["a", "1", "2", "Ġb"]),
        ("gpt-2", ["a", "12", "Ġb"]),
        ("default", ["a", "12", "Ġb"]),
        ("qwen2", ["a", "1", "2", "Ġb"]),
        ("llama-bpe", ["a", "12", "Ġb"]),
        ("tekken", ["a", "1", "2", "Ġb"]),
        ("gpt-4o", ["a", "12", "Ġb"]),
        ("deepseek-v3", ["a", "12", "Ġb"]),
    ],
)
def test_pre_tokenizer_by_name(pre: str, pieces: list[str], make_gguf: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(make_gguf(tmp_path / "m.gguf", pre=pre)).tokenizer)
    assert [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("a12 b")] == pieces
    for text in TEXTS:
        normal = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == normal


def test_bos_is_added_where_the_file_says_so(make_gguf: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(make_gguf(tmp_path / "m.gguf", add_add_bos_token=True)).tokenizer)
    assert tokenizer.encode("he").tokens == ["<|im_start|>", "he"]
    assert tokenizer.encode("he", add_special_tokens=False).tokens == ["he"]


@pytest.mark.parametrize("text", ["hello", " hello", "hello  hello\n", "héllo 日本 😀", "he<tool>llo", ""])
@pytest.mark.parametrize("add_space_prefix", [True, False])
def test_sentencepiece_round_trips_with_bytes(
    text: str, add_space_prefix: bool, make_sentencepiece_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    stored = read_gguf(make_sentencepiece_gguf(tmp_path / "m.gguf", add_space_prefix=add_space_prefix)).tokenizer
    tokenizer = build_tokenizer(stored)
    encoded = tokenizer.encode(text)
    assert encoded.tokens[0] == "<s>"
    if "<tool>" not in text:  # after it the prefix is added again, as transformers' legacy tokenisers do
        assert tokenizer.decode(encoded.ids) == text
    else:
        assert "<tool>" in encoded.tokens


def test_sentencepiece_merges_by_score(make_sentencepiece_gguf: Callable[..., Path], tmp_path: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(make_sentencepiece_gguf(tmp_path / "m.gguf")).tokenizer)
    assert tokenizer.encode("hello", add_special_tokens=False).tokens == ["▁hello"]


def test_written_files(tiny_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    model = write_metadata(tiny_gguf, folder, beside=tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["max_position_embeddings"] == model.context_length == 512
    assert (config["bos_token_id"], config["eos_token_id"], config["model_type"]) == (1, [0, 2], "llama")
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).encode("hello").tokens == ["hell", "o"]


def test_end_tokens_are_the_named_and_the_known_ones(tiny_gguf: Path) -> None:
    assert end_token_ids(read_gguf(tiny_gguf).tokenizer) == [0, 2]  # <|endoftext|> by its name, <|im_end|> as eos


def test_given_tokenizer_wins(tiny_gguf: Path, tmp_path: Path) -> None:
    folder, beside = tmp_path / "out", tmp_path / "beside"
    folder.mkdir()
    beside.mkdir()
    (beside / "tokenizer.json").write_text("{}")
    write_metadata(tiny_gguf, folder, beside=beside)
    assert (folder / "tokenizer.json").read_text() == "{}"


@pytest.mark.parametrize(("kind", "pre", "word"), [("t5", "smollm", "'t5'"), ("gpt2", "klingon", "'klingon'")])
def test_unknown_tokenizer_is_refused_with_advice(
    kind: str, pre: str, word: str, make_gguf: Callable[..., Path], tmp_path: Path
) -> None:
    stored = read_gguf(make_gguf(tmp_path / "m.gguf", kind=kind, pre=pre)).tokenizer
    with pytest.raises(InvalidArgument, match=rf"{word}.*tokenizer\.json beside"):
        build_tokenizer(stored)


def test_damaged_merges_are_refused(make_gguf: Callable[..., Path], tmp_path: Path) -> None:
    stored = read_gguf(make_gguf(tmp_path / "m.gguf", add_token_merges=["not there"])).tokenizer
    with pytest.raises(InvalidArgument, match="damaged"):
        build_tokenizer(stored)


@pytest.mark.parametrize("keep", [4, 12, 30, 3000, -1])
def test_truncated_file_is_refused(keep: int, tiny_gguf: Path) -> None:
    tiny_gguf.write_bytes(tiny_gguf.read_bytes()[:keep])
    with pytest.raises(InvalidArgument, match="is cut short, damaged, or not a language model"):
        read_gguf(tiny_gguf)


def test_other_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(InvalidArgument, match="not a GGUF file"):
        read_gguf(tmp_path / "x.gguf")


def test_smollm2_equals_openvino_genai(default_model: Path) -> None:
    gguf_file = default_model / "model.gguf"
    theirs = genai.Tokenizer(gguf_file)
    ours = build_tokenizer(read_gguf(gguf_file).tokenizer)
    for text in [*TEXTS, *_random_texts(300)]:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs.encode(text, add_special_tokens=False).input_ids.data[0].tolist(), repr(text)
        assert ours.decode(ids) == theirs.decode(ids), repr(text)


def _random_texts(count: int) -> list[str]:
    rng = random.Random(1)
    parts = [
        "a",
        "B",
        " ",
        "  ",
        "\n",
        "1",
        "23",
        "é",
        "日",
        "😀",
        "'s",
        "'LL",
        ".",
        "-",
        "\t",
        "<|im_end|>",
        "٣",
        "\u0301",
    ]
    return ["".join(rng.choice(parts) for _ in range(rng.randint(1, 30))) for _ in range(count)]
