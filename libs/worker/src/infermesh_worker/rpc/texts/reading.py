"""Turns the texts of a request into token ids, cut or refused where they are longer than the model reads. Blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import ContextLengthExceeded
from infermesh_runtime.tensors import Array
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.prompts.prompt import invalid

_MOST_CONTEXTS = 16
"""How many contexts of the longest tokens a text may be long to be tokenised: it takes a second per megabyte."""
_CUTS = (pb.TRUNCATION_END, pb.TRUNCATION_START)


@dataclass(frozen=True, slots=True)
class TokenisedText:
    """A text, or a pair of a query and a text, with the special tokens."""

    ids: Array
    """INT32 [tokens]."""
    types: Array | None = None
    """INT32 [tokens]: 0 for the query, 1 for the text; None: it is no pair, or the model is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a text may be."""

    context_length: int
    vocab_size: int
    """0: not known."""
    truncation: "pb.Truncation"


def check_texts(texts: Sequence[str], field: str) -> None:
    """Raises InvalidArgument if there are none, or one is empty."""
    if not texts:
        raise invalid(field, "at least one is required")
    if (empty := next((index for index, text in enumerate(texts) if not text), None)) is not None:
        raise invalid(f"{field}[{empty}]", "must not be empty")


def read_texts(model: OpenedModel, texts: Sequence[str], prompt: str, limits: Limits) -> list[TokenisedText]:
    """Tokenises texts after a prompt. Raises InvalidArgument and ContextLengthExceeded, which name the text."""
    lower = model.encoder is not None and model.encoder.lower_case
    given = [prompt + _bounded(text, f"texts[{i}]", model, limits) for i, text in enumerate(texts)]
    given = [text.lower() for text in given] if lower else given
    encodings = model.tokenizer.encode_batch_fast(given, add_special_tokens=True)
    return [
        TokenisedText(_ids(_fitted(encoding, limits, f"texts[{index}]"), limits, f"texts[{index}]"))
        for index, encoding in enumerate(encodings)
    ]


def read_token_ids(lists: Sequence[pb.TokenIds], limits: Limits) -> list[TokenisedText]:
    """Checks texts that are given as token ids. Raises InvalidArgument and ContextLengthExceeded."""
    found: list[TokenisedText] = []
    for index, given in enumerate(lists):
        field, most = f"token_ids[{index}]", limits.context_length
        if not given.ids:
            raise invalid(field, "must have at least one token")
        if len(given.ids) > most and limits.truncation not in _CUTS:
            raise _too_long(field, len(given.ids), most)
        ids = given.ids[-most:] if limits.truncation == pb.TRUNCATION_START else given.ids[:most]
        found.append(TokenisedText(_ids(ids, limits, field)))
    return found


def read_pairs(model: OpenedModel, pairs: Sequence[tuple[str, str]], limits: Limits) -> list[TokenisedText]:
    """Tokenises queries with their texts; only the texts are cut. Raises InvalidArgument and ContextLengthExceeded."""
    bounded = [
        (_bounded(query, "queries", model, limits), _bounded(text, f"texts[{i}]", model, limits))
        for i, (query, text) in enumerate(pairs)
    ]
    told = model.encoder is None or model.encoder.token_types
    found: list[TokenisedText] = []
    for index, encoding in enumerate(model.tokenizer.encode_batch_fast(bounded, add_special_tokens=True)):
        field = f"texts[{index}]"
        if len(encoding.ids) > limits.context_length:
            encoding = _cut_pair(bounded[index], model, limits, field, len(encoding.ids))  # noqa: PLW2901
        types = np.array(encoding.type_ids, np.int32) if told else None
        found.append(TokenisedText(_ids(encoding.ids, limits, field), types))
    return found


def _bounded(text: str, field: str, model: OpenedModel, limits: Limits) -> str:
    """The text, or as much of it as can matter. Raises ContextLengthExceeded for one that is out of all proportion."""
    most = _MOST_CONTEXTS * limits.context_length * model.longest_token_chars
    if len(text) <= most:
        return text
    match limits.truncation:
        case pb.TRUNCATION_END:
            return text[:most]
        case pb.TRUNCATION_START:
            return text[-most:]
        case _:
            raise _too_long(field, len(text) // model.longest_token_chars, limits.context_length, exact=False)


def _fitted(encoding: Any, limits: Limits, field: str) -> Sequence[int]:
    """The ids of an encoding, cut between its special tokens. Raises ContextLengthExceeded."""
    if len(encoding.ids) <= limits.context_length:
        ids: Sequence[int] = encoding.ids
        return ids
    if limits.truncation not in _CUTS:
        raise _too_long(field, len(encoding.ids), limits.context_length)
    special = encoding.special_tokens_mask
    begin = next((i for i, is_special in enumerate(special) if not is_special), 0)
    end = len(special) - next((i for i, is_special in enumerate(reversed(special)) if not is_special), 0)
    room = max(0, limits.context_length - begin - (len(special) - end))
    content = encoding.ids[begin:end]
    kept = content[len(content) - room :] if limits.truncation == pb.TRUNCATION_START else content[:room]
    return [*encoding.ids[:begin], *kept, *encoding.ids[end:]]


def _cut_pair(pair: tuple[str, str], model: OpenedModel, limits: Limits, field: str, tokens: int) -> Any:
    if limits.truncation not in _CUTS:
        raise _too_long(field, tokens, limits.context_length, what="the query and this text have")
    query, text = model.tokenizer.encode_batch(list(pair), add_special_tokens=False)
    room = limits.context_length - len(query.ids) - model.tokenizer.num_special_tokens_to_add(is_pair=True)
    if room < 1:
        raise _too_long("queries", len(query.ids), limits.context_length, what="the query alone has")
    text.truncate(room, direction="left" if limits.truncation == pb.TRUNCATION_START else "right")
    return model.tokenizer.post_process(query, text, add_special_tokens=True)


def _ids(ids: Sequence[int], limits: Limits, field: str) -> Array:
    array = np.array(ids, np.int64)
    if not array.size:
        raise invalid(field, "has no tokens")
    if limits.vocab_size and (wrong := array >= limits.vocab_size).any():
        index = int(wrong.argmax())
        raise invalid(field, f"token {index} is {array[index]}, but ids must be below {limits.vocab_size}")
    return array.astype(np.int32)


def _too_long(field: str, tokens: int, most: int, *, exact: bool = True, what: str = "it has") -> ContextLengthExceeded:
    problem = (
        f"{what} {'' if exact else 'at least '}{tokens} tokens, and the model reads at most {most}: shorten it, or let "
        "it be cut (truncation)"
    )
    return ContextLengthExceeded(
        f"{field}: {problem}",
        metadata={"prompt_tokens": str(tokens), "context_length": str(most)},
        fields={field: problem},
    )
