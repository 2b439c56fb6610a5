"""Builds a tokenizer from the byte-level BPE or SentencePiece data that a GGUF file stores."""

from collections.abc import Iterable

from gguf import TokenType
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE

from infermesh_client.gguf_metadata.pretokenizers import PRE_TOKENIZERS
from infermesh_client.gguf_metadata.reader import GgufTokenizer
from infermesh_runtime.errors import InvalidArgument

_ADVICE = "put the model's own tokenizer.json beside the GGUF file and import it again"
_SPACE = "▁"


def build_tokenizer(stored: GgufTokenizer) -> Tokenizer:
    """Builds the tokenizer. Raises InvalidArgument, with advice, for an unknown kind or damaged data."""
    match stored.model:
        case "gpt2":
            return _byte_level_bpe(stored)
        case "llama":
            return _sentencepiece_bpe(stored)
        case kind:
            raise InvalidArgument(f"this GGUF file's tokenizer is of an unknown kind, {kind!r}; {_ADVICE}")


def _byte_level_bpe(stored: GgufTokenizer) -> Tokenizer:
    family = PRE_TOKENIZERS.get(stored.pre)
    if family is None:
        raise InvalidArgument(f"this GGUF file's pre-tokenizer {stored.pre!r} is unknown; {_ADVICE}")
    merges = [_split_merge(merge) for merge in stored.merges]
    tokenizer = Tokenizer(_bpe(stored, merges, ignore_merges=family.ignore_merges))
    if (normalizer := family.build_normalizer()) is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = family.build(add_prefix_space=bool(stored.add_space_prefix))
    tokenizer.decoder = decoders.ByteLevel()
    _add_marked_tokens(tokenizer, stored)
    add_bos = family.add_bos if stored.add_bos is None else stored.add_bos
    if not (add_bos and _set_bos(tokenizer, stored)):
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _sentencepiece_bpe(stored: GgufTokenizer) -> Tokenizer:
    """Converts SentencePiece as transformers does: merges come from scores, unknown text becomes bytes."""
    if len(stored.scores) != len(stored.tokens):
        raise InvalidArgument(f"this GGUF file's SentencePiece tokenizer has no scores; {_ADVICE}")
    unknown = stored.special_ids.get("unknown")
    unknown_token = stored.tokens[unknown] if unknown is not None else None
    tokenizer = Tokenizer(
        _bpe(stored, list(_merges_from_scores(stored)), byte_fallback=True, fuse_unk=True, unk_token=unknown_token)
    )
    prefix = stored.add_space_prefix is not False
    steps = [normalizers.Prepend(_SPACE)] if prefix else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    _add_marked_tokens(tokenizer, stored)
    if stored.add_bos is not False:
        _set_bos(tokenizer, stored)
    return tokenizer


def _bpe(stored: GgufTokenizer, merges: list[tuple[str, str]], **options: object) -> BPE:
    vocabulary = {token: index for index, token in enumerate(stored.tokens)}
    try:
        return BPE(vocab=vocabulary, merges=merges, **options)
    except Exception as error:  # the package raises a bare Exception for merges outside the vocabulary
        raise InvalidArgument(f"this GGUF file's tokenizer is damaged ({error}); {_ADVICE}") from error


def _split_merge(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _merges_from_scores(stored: GgufTokenizer) -> Iterable[tuple[str, str]]:
    """All pairs of tokens that join into a third, by its score, best first; as transformers' generate_merges."""
    ids = {token: index for index, token in enumerate(stored.tokens)}
    kinds = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
    found: list[tuple[float, int, int, str, str]] = []
    for token, kind, score in zip(stored.tokens, stored.types, stored.scores, strict=True):
        if kind not in kinds:
            continue
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        local = sorted(((ids[left], ids[right], left, right) for left, right in cuts if left in ids and right in ids))
        found += [(score, len(left), len(right), left, right) for _, _, left, right in local]
    found.sort(key=lambda entry: entry[:3], reverse=True)
    return ((left, right) for *_, left, right in found)


def _add_marked_tokens(tokenizer: Tokenizer, stored: GgufTokenizer) -> None:
    """Marks control tokens as special. User-defined tokens are recognised in text, but not hidden in output."""

    def of(*kinds: TokenType) -> list[str]:
        return [token for token, kind in zip(stored.tokens, stored.types, strict=True) if kind in kinds and token]

    special = of(TokenType.CONTROL, TokenType.UNKNOWN)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in of(TokenType.USER_DEFINED)])


def _set_bos(tokenizer: Tokenizer, stored: GgufTokenizer) -> bool:
    bos = stored.special_ids.get("bos")
    if bos is None:
        return False
    token = stored.tokens[bos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[token, "$A"], pair=[token, "$A", "$B:1"], special_tokens=[(token, bos)]
    )
    return True
