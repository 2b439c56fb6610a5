"""Control tokens that users write out are tokenised as the text that they are, in every family of tokenizers."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from infermesh_worker.models.apart_tokenizer import ApartTokenizer

CONTROL = ["<s>", "<|end|>", "<tool>"]
LETTERS = ["▁", "<", ">", "|", "s", "e", "n", "d", "t", "o", "l", "▁o"]


def byte_level(*, in_vocabulary: bool) -> Tokenizer:
    names = [*(CONTROL if in_vocabulary else ()), *sorted(pre_tokenizers.ByteLevel.alphabet()), "en", "end"]
    vocabulary = {name: token_id for token_id, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("e", "n"), ("en", "d")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def merged() -> Tokenizer:
    """A vocabulary whose merges spell a control token."""
    names = [*LETTERS, "<s", "<s>", "<unk>"]
    vocabulary = {name: token_id for token_id, name in enumerate(names)}
    merges = [("<", "s"), ("<s", ">")]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    return tokenizer


def unigram() -> Tokenizer:
    """Control tokens are its best pieces, as SentencePiece stores them."""
    pieces = [("<unk>", 0.0), *((token, 0.0) for token in CONTROL), *((letter, -2.0) for letter in LETTERS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@pytest.fixture(params=["added", "in the vocabulary", "merged", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    made: Tokenizer = {
        "added": lambda: byte_level(in_vocabulary=False),
        "in the vocabulary": lambda: byte_level(in_vocabulary=True),
        "merged": merged,
        "unigram": unigram,
    }[request.param]()
    made.add_tokens([AddedToken("<tool>", normalized=False)])
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in ("<|end|>", "<s>")])
    made.add_tokens([AddedToken("<other>", normalized=False)])
    return made


@pytest.mark.parametrize("pieces", [("", "<s>", "end to", "<|end|>", ""), ("<other>s", "<tool>", " end", "<s>", "d")])
def test_same_ids_where_nothing_is_written_out(tokenizer: Tokenizer, pieces: tuple[str, ...]) -> None:
    expected = tokenizer.encode("".join(pieces), add_special_tokens=False).ids
    assert list(ApartTokenizer(tokenizer, CONTROL).encode(pieces)) == expected


def test_written_out_token_is_text(tokenizer: Tokenizer) -> None:
    controls = {tokenizer.token_to_id(token) for token in CONTROL}
    ids = ApartTokenizer(tokenizer, CONTROL).encode(("", "<s>", "end<|end|>d<s><tool>", "<|end|>", ""))
    assert [i for i in ids if i in controls] == [tokenizer.token_to_id("<s>"), tokenizer.token_to_id("<|end|>")]
    assert (ids[0], ids[-1]) == (tokenizer.token_to_id("<s>"), tokenizer.token_to_id("<|end|>"))
    assert tokenizer.decode(ids[1:-1], skip_special_tokens=False).strip() == "end<|end|>d<s><tool>"
