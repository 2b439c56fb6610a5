"""Compares a tokenizer with the embedding: finds tokens that the model has no row for."""

import json
from pathlib import Path
from typing import Any

from infermesh_runtime.errors import InvalidArgument


def tokens_beyond(tokenizer: Path, rows: int) -> list[str]:
    """The tokens of tokenizer.json whose ids are not below `rows`, in the order of their ids.

    Raises InvalidArgument when all tokens of the vocabulary itself would need more rows, and when it is not JSON.
    """
    try:
        content = json.loads(tokenizer.read_text(encoding="utf-8"))
        vocabulary, added = _vocabulary(content), _added(content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidArgument(f"{tokenizer.name} is not a tokenizer: {error}") from error
    within = [token for token, number in vocabulary.items() if number >= rows and token not in added]
    if within:
        raise InvalidArgument(
            f"{tokenizer.name} belongs to another model: it has {len(vocabulary)} tokens, and the embedding has {rows} "
            "rows"
        )
    beyond = {number: token for token, number in added.items() if number >= rows}
    return [beyond[number] for number in sorted(beyond)]


def _vocabulary(content: dict[str, Any]) -> dict[str, int]:
    found = (content.get("model") or {}).get("vocab") or {}
    if isinstance(found, list):  # of a unigram model: [token, score]
        return {str(entry[0]): number for number, entry in enumerate(found)}
    return {str(token): int(number) for token, number in found.items()}


def _added(content: dict[str, Any]) -> dict[str, int]:
    return {str(entry["content"]): int(entry["id"]) for entry in content.get("added_tokens") or ()}
