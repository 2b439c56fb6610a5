"""Tokenises a prompt whose control tokens are known, and takes the same letters anywhere else as plain text.

It is the model's tokenizer with other, secret names for its control tokens. The rest is the same, so a text without
control tokens written out gets the ids that it always gets, and prompts that begin alike have ids that begin alike.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from threading import Lock
from typing import Any

from tokenizers import AddedToken, Tokenizer


class ApartTokenizer:
    """A second tokenizer of a model, built when it is first needed. It shares the vocabulary of the first."""

    def __init__(self, tokenizer: Tokenizer, control_tokens: Iterable[str]) -> None:
        nonce = secrets.token_hex(8)
        self._names = {token: f"<{nonce}:{number}>" for number, token in enumerate(sorted(control_tokens))}
        self._plain = tokenizer
        self._lock = Lock()
        self._shared: _Renamed | None = None
        self._rewritten: _Renamed | None = None

    def encode(self, pieces: Sequence[str]) -> tuple[int, ...]:
        """The ids of text, control token, text, …, text. Call it in a thread."""
        text = "".join(self._names.get(piece, piece) if index % 2 else piece for index, piece in enumerate(pieces))
        with self._lock:
            shared = self._shared = self._shared or self._share()
        ids = shared.encode(text)
        if ids is not None:
            return ids
        with self._lock:
            rewritten = self._rewritten = self._rewritten or self._rewrite()
        return rewritten.encode(text) or ()

    def _share(self) -> "_Renamed":
        """With the model's vocabulary, whose pieces may spell control tokens."""
        tokenizer, plain = Tokenizer(self._plain.model), self._plain
        for part in ("normalizer", "pre_tokenizer"):
            if (value := getattr(plain, part)) is not None:
                setattr(tokenizer, part, value)
        added = sorted(plain.get_added_tokens_decoder().items())
        tokenizer.add_tokens([_rename_token(token, self._names) for _, token in added])
        spelled = {plain.token_to_id(token) for token in self._names}
        return _Renamed(tokenizer, self._ids(tokenizer), frozenset(spelled))

    def _rewrite(self) -> "_Renamed":
        """With a vocabulary of its own, in which no text spells them. Takes seconds and as much memory as the first."""
        document = json.loads(self._plain.to_str())
        _rename(document, self._names)
        tokenizer = Tokenizer.from_str(json.dumps(document))
        return _Renamed(tokenizer, self._ids(tokenizer), frozenset())

    def _ids(self, renamed: Tokenizer) -> Mapping[int, int]:
        """The ids of added tokens, by those that they have in the other tokenizer."""
        ids = {self._names.get(t.content, t.content): i for i, t in self._plain.get_added_tokens_decoder().items()}
        return {i: ids[token.content] for i, token in renamed.get_added_tokens_decoder().items()}


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A tokenizer whose control tokens have other names."""

    tokenizer: Tokenizer
    ids: Mapping[int, int]
    spelled: Set[int | None]
    """Ids that no text may get."""

    def encode(self, text: str) -> tuple[int, ...] | None:
        """The ids of a text; None if it spells a control token."""
        (encoded,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=False)
        if not self.spelled.isdisjoint(set(encoded.ids) - self.ids.keys()):
            return None
        return tuple(self.ids.get(token_id, token_id) for token_id in encoded.ids)


def _rename_token(token: AddedToken, names: Mapping[str, str]) -> AddedToken:
    return AddedToken(
        names.get(token.content, token.content),
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


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
