"""Makes the prompt with which a model for code fills in a gap, from the text before and after it."""

from dataclasses import dataclass

from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.opened_model import OpenedModel


@dataclass(frozen=True, slots=True)
class GapTokens:
    """The tokens of a family of models, by name. The prompt is: before, prefix, after, suffix, end."""

    before: str
    after: str
    end: str
    suffix_first: bool = False
    """Whether the suffix comes first: after, suffix, before, prefix."""


_FAMILIES = (
    GapTokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder and later, CodeGemma
    GapTokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite, SmolLM
    GapTokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    GapTokens("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    GapTokens("▁<PRE>", "▁<SUF>", "▁<MID>"),  # Code Llama
    GapTokens("[PREFIX]", "[SUFFIX]", "", suffix_first=True),  # Codestral
)
_ENDS = ("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<fim_pad>", "<file_sep>", "▁<EOT>", "<|cursor|>")
"""Tokens that such models write after what they have filled in; they may not be listed as ends of sequence."""


def encode_gap(model: OpenedModel, prefix: str, suffix: str) -> tuple[int, ...]:
    """The token ids of the prompt. Raises FailedPrecondition if the model's tokenizer has no tokens for gaps."""
    tokens = _tokens_of(model)
    before, after = (_known(model, name) for name in (tokens.before, tokens.after))
    end = _known(model, tokens.end) if tokens.end else ()
    lead = model.encode(Rendered(("",)), add_special_tokens=True)
    first, second = (_plain(model, text) for text in (prefix, suffix))
    if tokens.suffix_first:
        return lead + after + second + before + first
    return lead + before + first + after + second + end


def gap_ends(model: OpenedModel) -> tuple[int, ...]:
    """The ids of the tokens that end what a model fills in."""
    ids = (model.tokenizer.token_to_id(token) for token in _ENDS)
    return tuple(token_id for token_id in ids if token_id is not None)


def _tokens_of(model: OpenedModel) -> GapTokens:
    for tokens in _FAMILIES:
        if all(_known(model, name) for name in (tokens.before, tokens.after, tokens.end) if name):
            return tokens
    raise FailedPrecondition(
        f"Model {model.name!r} cannot fill in gaps: its tokenizer has no tokens for the text before and after one. "
        "Leave 'suffix' out, or use a model for code, such as Qwen2.5-Coder.",
        reason="NO_FILL_IN_MIDDLE",
        fields={"prompt_options.suffix": "the model cannot fill in gaps"},
    )


def _known(model: OpenedModel, name: str) -> tuple[int, ...]:
    """The id of the token of this name; () if there is none."""
    token_id = model.tokenizer.token_to_id(name)
    return () if token_id is None else (token_id,)


def _plain(model: OpenedModel, text: str) -> tuple[int, ...]:
    return model.encode(Rendered((text,)), add_special_tokens=False)
