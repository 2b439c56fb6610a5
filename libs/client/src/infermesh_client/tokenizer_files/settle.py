"""Makes sure that an import's folder has a tokenizer.json that gives the ids that transformers gives."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, processors

from infermesh_client.tokenizer_files.byte_bpe import ADDED, MERGES, VOCABULARY, read_byte_bpe
from infermesh_client.tokenizer_files.sentencepiece import read_sentencepiece
from infermesh_client.tokenizer_files.tiktoken import is_tiktoken, read_tiktoken
from infermesh_runtime.errors import InvalidArgument

SENTENCEPIECE = "tokenizer.model"
"""Llama 3's file of this name has tiktoken's lines."""
_BYTE_BPE = (VOCABULARY, MERGES, ADDED)
_FLAGS = ("add_bos_token", "add_eos_token")


def is_convertible(name: str) -> bool:
    """Whether a tokenizer can be made from a file of this name alone."""
    return name == SENTENCEPIECE or name.endswith(".tiktoken")


def tokenizer_sources(names: Collection[str]) -> Sequence[str]:
    """Of the names in a folder without tokenizer.json, those that a tokenizer can be made of, if any."""
    if alone := sorted(filter(is_convertible, names)):
        return alone
    return [name for name in _BYTE_BPE if name in names] if {VOCABULARY, MERGES} <= set(names) else ()


def settle_tokenizer(folder: Path) -> None:
    """Makes tokenizer.json if there is none, and gives it what tokenizer_config.json says of special tokens.

    As transformers does: special tokens are marked as such, and `add_bos_token` and `add_eos_token`, where they are
    given, decide what is put around a text. Raises InvalidArgument when the files cannot be used.
    """
    path = folder / "tokenizer.json"
    config = _read(folder / "tokenizer_config.json")
    if path.is_file():
        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception:  # tokenizers raises bare Exception; the worker says what is wrong when it opens the model
            return
        before = tokenizer.to_str()
    else:
        (tokenizer, config), before = _convert(folder, config), ""
    _mark_special(tokenizer, config, is_new=not before)
    if any(isinstance(config.get(flag), bool) for flag in _FLAGS):
        _surround(tokenizer, config)
    if tokenizer.to_str() != before:
        tokenizer.save(str(path))


def _convert(folder: Path, config: Mapping[str, Any]) -> tuple[Tokenizer, Mapping[str, Any]]:
    """The tokenizer, and the configuration with what is known of its special tokens besides."""
    sources = tokenizer_sources([path.name for path in folder.iterdir()])
    model_type = str(_read(folder / "config.json").get("model_type", ""))
    if not sources:
        raise InvalidArgument(
            "the model has neither tokenizer.json, nor what one is made from: tokenizer.model, a .tiktoken file, or "
            "vocab.json with merges.txt"
        )
    if sources[0] in _BYTE_BPE:
        return read_byte_bpe(folder, config, model_type)
    content = (folder / sources[0]).read_bytes()
    if is_tiktoken(content):
        return read_tiktoken(content, model_type), config
    return read_sentencepiece(content), config


def _mark_special(tokenizer: Tokenizer, config: Mapping[str, Any], *, is_new: bool) -> None:
    """Marks the tokens that the configuration names as special. A new tokenizer gets those that it lists by id, too."""
    stored = config.get("added_tokens_decoder")
    listed = stored.items() if is_new and isinstance(stored, Mapping) else ()
    for token_id, entry in sorted(listed, key=lambda item: int(item[0])):
        content, expected = str(entry["content"]), tokenizer.token_to_id(str(entry["content"]))
        if int(token_id) != (tokenizer.get_vocab_size() if expected is None else expected):
            raise InvalidArgument(f"tokenizer_config.json gives {content!r} the id {token_id}, where it cannot be")
        options = {name: bool(entry[name]) for name in ("lstrip", "rstrip", "single_word", "special") if name in entry}
        tokenizer.add_tokens([AddedToken(content, normalized=False, **options)])
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    named = [_content(config.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")]
    missing = [name for name in named if name and name not in known and tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in missing])


def _surround(tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Puts bos before and eos after a text where the configuration says so."""
    around = []
    for flag, name in zip(_FLAGS, ("bos_token", "eos_token"), strict=True):
        token = _content(config.get(name))
        token_id = tokenizer.token_to_id(token) if token and config.get(flag) is True else None
        around.append((token, token_id) if token and token_id is not None else None)
    bos, eos = around
    single = [*([bos[0]] if bos else []), "$A", *([eos[0]] if eos else [])]
    pair = [*single, *("$B:1" if part == "$A" else part for part in single)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=list(dict.fromkeys(entry for entry in around if entry))
    )


def _content(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) and text else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # facts.read_json says what is wrong with it
        return {}
    return content if isinstance(content, Mapping) else {}
