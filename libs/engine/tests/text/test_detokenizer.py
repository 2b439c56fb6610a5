"""Text from tokens as they arrive equals the text of all of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from infermesh_engine.text.detokenizer import Detokenizer
from infermesh_engine.text.token_bytes import TokenBytes

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CORPUS = ["the quick brown fox jumps over the lazy dog", "naïve café — 東京 は 🙂🙃 ok", "  two  spaces\n\n"] * 5


def train_byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=350, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def build_byte_fallback() -> Tokenizer:
    """A tokenizer like those converted from the Llama family's SentencePiece models."""
    vocab = {"<unk>": 0, "<s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    for token in ["▁", "h", "e", "l", "o", "é", "▁h", "▁he", "ll", "llo", "▁hello", "\n"]:
        vocab[token] = len(vocab)
    merges = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("ll", "o"), ("▁he", "llo")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.add_tokens(["▁▁"])
    return tokenizer


BYTE_LEVEL = train_byte_level()
BYTE_FALLBACK = build_byte_fallback()
BOTH = pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK], ids=["byte-level", "byte-fallback"])
unicode_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def id_of(tokenizer: Tokenizer, token: str) -> int:
    token_id = tokenizer.token_to_id(token)
    assert token_id is not None, token
    return token_id


def pieces_of(tokenizer: Tokenizer, prompt: list[int], token_ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer, prompt)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


def difference(tokenizer: Tokenizer, prompt: list[int], token_ids: list[int]) -> str:
    return tokenizer.decode(prompt + token_ids).removeprefix(tokenizer.decode(prompt))


@BOTH
@given(prompt=unicode_text, text=unicode_text)
def test_pieces_add_up_to_the_whole_text(tokenizer: Tokenizer, prompt: str, text: str) -> None:
    prompt_ids = tokenizer.encode("hello " + prompt).ids
    token_ids = tokenizer.encode(text).ids
    pieces = pieces_of(tokenizer, prompt_ids, token_ids)
    assert "".join(pieces) == difference(tokenizer, prompt_ids, token_ids)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in pieces), "half a character"
        assert not pieces[-1]


@settings(max_examples=300)
@given(st.lists(st.integers(0, BYTE_LEVEL.get_vocab_size() - 1), max_size=60))
def test_random_byte_level_tokens_add_up_to_the_whole_text(token_ids: list[int]) -> None:
    prompt = BYTE_LEVEL.encode("hello").ids
    assert "".join(pieces_of(BYTE_LEVEL, prompt, token_ids)) == difference(BYTE_LEVEL, prompt, token_ids)


TABLE = TokenBytes(BYTE_LEVEL)
ID_OF_BYTE = {TABLE[i]: i for i in (id_of(BYTE_LEVEL, letter) for letter in pre_tokenizers.ByteLevel.alphabet())}
invalid_bytes = st.sampled_from([0x80, 0xE2, 0x82, 0xF0, 0x9F, 0xC3, 0xFF])


@settings(max_examples=300)
@given(st.lists(invalid_bytes, min_size=18, max_size=60))
def test_long_invalid_runs_are_shown_and_add_up(run: list[int]) -> None:
    token_ids = [ID_OF_BYTE[bytes([byte])] for byte in run]
    pieces = pieces_of(BYTE_LEVEL, [], token_ids)
    assert "".join(pieces) == bytes(run).decode(errors="replace")
    assert any(pieces[:-1]), "nothing was shown before the end"


@given(st.lists(st.integers(0, BYTE_FALLBACK.get_vocab_size() - 1), max_size=40))
def test_random_byte_fallback_tokens_never_fail(token_ids: list[int]) -> None:
    """An invalid run of byte tokens changes characters that were already shown, so only valid runs add up."""
    prompt = BYTE_FALLBACK.encode("hello").ids
    shown = "".join(pieces_of(BYTE_FALLBACK, prompt, token_ids))
    whole = difference(BYTE_FALLBACK, prompt, token_ids)
    if REPLACEMENT not in whole:
        assert shown == whole
    assert len(shown.replace(REPLACEMENT, "")) >= len(whole.replace(REPLACEMENT, ""))


def test_byte_tokens_that_turn_out_invalid_do_not_stop_the_text() -> None:
    """tokenizers' own DecodeStream fails here, and on everything after it."""
    ids = [2 + 0xC3, 2 + 0xA9, 2 + 0xFF, *BYTE_FALLBACK.encode("hello hello").ids]
    assert "".join(pieces_of(BYTE_FALLBACK, [], ids)) == f"é{REPLACEMENT} hello hello"


@BOTH
def test_incomplete_end_is_shown_as_the_whole_decode_shows_it(tokenizer: Tokenizer) -> None:
    token_ids = tokenizer.encode("hello 🦜").ids[:-1]
    pieces = pieces_of(tokenizer, [], token_ids)
    assert REPLACEMENT in pieces[-1]
    assert "".join(pieces) == tokenizer.decode(token_ids)


def test_first_word_keeps_its_space_after_a_prompt_only() -> None:
    hello = [id_of(BYTE_FALLBACK, "▁hello")]
    assert pieces_of(BYTE_FALLBACK, hello, hello)[0] == " hello"
    assert pieces_of(BYTE_FALLBACK, [1], hello)[0] == "hello"
    assert pieces_of(BYTE_FALLBACK, hello + [1] * 6, hello)[0] == " hello", "special tokens hide the word before them"


@BOTH
def test_special_tokens_have_no_text_however_many_there_are(tokenizer: Tokenizer) -> None:
    special = id_of(tokenizer, "<|end|>") if tokenizer is BYTE_LEVEL else 1
    words = tokenizer.encode("hello hello").ids
    pieces = pieces_of(tokenizer, words, [*words, *[special] * 100, *words])
    assert "".join(pieces) == difference(tokenizer, words, words + words)


@BOTH
@given(text=unicode_text)
def test_bytes_of_tokens_add_up_to_the_text(tokenizer: Tokenizer, text: str) -> None:
    table = TokenBytes(tokenizer)
    joined = b"".join(table[token_id] for token_id in tokenizer.encode(text, add_special_tokens=False).ids)
    if tokenizer is BYTE_LEVEL:
        assert joined.decode() == text
    else:  # whose encoding puts a space before the first word
        assert joined.decode().lstrip(" ") == text.replace("▁", " ").lstrip(" ")


def test_bytes_of_every_byte_level_token_are_what_it_decodes_to() -> None:
    table = TokenBytes(BYTE_LEVEL)
    for token_id in range(BYTE_LEVEL.get_vocab_size()):
        decoded = BYTE_LEVEL.decode([token_id], skip_special_tokens=False)
        assert table[token_id].decode(errors="replace") == decoded


@BOTH
def test_bytes_of_special_and_unknown_tokens(tokenizer: Tokenizer) -> None:
    table = TokenBytes(tokenizer)
    name = "<|end|>" if tokenizer is BYTE_LEVEL else "<s>"
    assert table[id_of(tokenizer, name)] == name.encode()
    assert table[100_000] == b""
    if tokenizer is BYTE_FALLBACK:
        assert table[id_of(tokenizer, "▁▁")] == b"  ", "added, but not special"
    assert {table[2 + byte] for byte in range(256)} == {bytes([b]) for b in range(256)} or tokenizer is BYTE_LEVEL
