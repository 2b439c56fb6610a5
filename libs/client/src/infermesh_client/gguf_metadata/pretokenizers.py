"""Defines how text is split before byte-level BPE, by the names that GGUF files use (`tokenizer.ggml.pre`).

The names come from llama.cpp's llama-vocab.cpp, the expressions from the models' original tokenizer.json.
"""

from dataclasses import dataclass
from typing import Literal

from tokenizers import Regex, normalizers, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_TAIL}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASH_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}|{_SLASH_TAIL}"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?|\p{{N}}{{1,3}}|{_SLASH_TAIL}"
)
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTokenizer:
    """How one family of byte-level BPE tokenizers splits its text."""

    expressions: tuple[str, ...] = ()
    """Regular expressions, applied in order; each match becomes a piece. Empty: GPT-2's, built into ByteLevel."""
    split_digits: bool = False
    """Whether to make every digit its own piece first."""
    normalizer: Literal["NFC"] | None = None
    ignore_merges: bool = False
    """Whether a piece that is a token is used as it is, without applying merges."""
    add_bos: bool = False
    """Whether a prompt begins with the bos token when the file does not say."""

    def build(self, *, add_prefix_space: bool) -> pre_tokenizers.PreTokenizer:
        """Builds the pre-tokenizer of the package tokenizers."""
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.split_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        steps += [pre_tokenizers.Split(Regex(e), "isolated") for e in self.expressions]
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=not self.expressions))
        return steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)

    def build_normalizer(self) -> normalizers.Normalizer | None:
        """Builds the normalizer of the package tokenizers, if the family has one."""
        return normalizers.NFC() if self.normalizer == "NFC" else None


_GPT2 = PreTokenizer()
_GPT2_NFC = PreTokenizer(normalizer="NFC")
_DIGITS = PreTokenizer(split_digits=True)
_FAMILIES: tuple[tuple[PreTokenizer, tuple[str, ...]], ...] = (
    (_GPT2, ("", "default", "gpt-2", "phi-2", "jina-es", "jina-de", "jais", "granite-docling", "trillion", "mellum")),
    (_GPT2_NFC, ("mpt", "olmo", "modern-bert")),
    (_DIGITS, ("smollm", "starcoder", "refact", "codeshell", "minerva-7b")),
    (PreTokenizer(split_digits=True, normalizer="NFC"), ("command-r",)),
    (PreTokenizer(expressions=(_QWEN2,), normalizer="NFC"), ("qwen2", "deepseek-r1-qwen", "stablelm2", "megrez")),
    (PreTokenizer(expressions=(_QWEN35,), normalizer="NFC"), ("qwen35",)),
    (
        PreTokenizer(expressions=(_LLAMA3,), ignore_merges=True, add_bos=True),
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"),
    ),
    (PreTokenizer(expressions=(_LLAMA3,)), ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe")),
    (PreTokenizer(expressions=(_TEKKEN,), ignore_merges=True, add_bos=True), ("tekken",)),
    (PreTokenizer(expressions=(_GPT4O,)), ("gpt-4o", "llama4")),
    (PreTokenizer(expressions=_DEEPSEEK3), ("deepseek-v3", "hunyuan-dense")),
)
PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: family for family, names in _FAMILIES for name in names}
"""Families by the name in the GGUF file."""
