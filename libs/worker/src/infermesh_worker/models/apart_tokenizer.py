"""Tokenises a prompt whose control tokens are known, and takes the same letters anywhere else as plain text.

It is the model's tokenizer with other, secret names for its control tokens. The rest is the same, so a text without
control tokens written out gets the ids that it always gets, and prompts that begin alike have ids that begin alike.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import Any

from tokenizers import Tokenizer


class ApartTokenizer:
    """A second tokenizer of a model, built when it is first needed: it takes as much time and memory as the first."""

    def __init__(self, tokenizer: Tokenizer, control_tokens: Iterable[str]) -> None:
        nonce = secrets.token_hex(8)
        self._names = {token: f"<{nonce}:{number}>" for number, token in enumerate(sorted(control_tokens))}
        self._plain = tokenizer
        self._lock = Lock()
        self._built: tuple[Tokenizer, Mapping[int, int]] | None = None

    def encode(self, pieces: Sequence[str]) -> tuple[int, ...]:
        """The ids of text, control token, text, …, text. Call it in a thread."""
        with self._lock:
            tokenizer, ids = self._built = self._built or self._build()
        named = [self._names.get(piece, piece) if index % 2 else piece for index, piece in enumerate(pieces)]
        (encoded,) = tokenizer.encode_batch_fast(["".join(named)], add_special_tokens=False)
        return tuple(ids.get(token_id, token_id) for token_id in encoded.ids)

    def _build(self) -> tuple[Tokenizer, Mapping[int, int]]:
        """The tokenizer with other names, and the ids that it numbers differently."""
        document = json.loads(self._plain.to_str())
        _rename(document, self._names)
        tokenizer = Tokenizer.from_str(json.dumps(document))
        ids = {self._names.get(t.content, t.content): i for i, t in self._plain.get_added_tokens_decoder().items()}
        return tokenizer, {i: ids[t.content] for i, t in tokenizer.get_added_tokens_decoder().items()}


def _rename(document: dict[str, Any], names: Mapping[str, str]) -> None:
    """Renames tokens in the content of a tokenizer.json, so that they keep their ids and no text spells them."""
    for token in document["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = document["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, list):  # Unigram's pairs of a piece and its score
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    elif vocabulary is not None:
        model["vocab"] = {names.get(token, token): token_id for token, token_id in vocabulary.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint((*pair, "".join(pair)))]
