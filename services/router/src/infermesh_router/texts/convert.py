"""Converts bodies about texts to calls. Its functions run in other processes for large bodies."""

from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import AskedCall
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.parse import Parsed, parse_body
from infermesh_router.requests.call import Call
from infermesh_router.requests.kinds.texts import read_embed, read_score
from infermesh_router.texts.schema import EmbeddingsBody, RerankBody, ScoreBody, list_hints

TRUNCATIONS = {
    None: pb.TRUNCATION_UNSPECIFIED,
    "NONE": pb.TRUNCATION_NONE,
    "END": pb.TRUNCATION_END,
    "START": pb.TRUNCATION_START,
}
_QUERIES = frozenset({"query", "search_query"})

BodyT = TypeVar("BodyT", EmbeddingsBody, RerankBody, ScoreBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingAnswer:
    """How the answer of /v1/embeddings is written."""

    model: str
    is_base64: bool
    is_single: bool
    """Whether the input was one text, which errors then call by the field's name alone."""
    field: str = "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankAnswer:
    """How the answer of /v1/rerank is written."""

    model: str
    top_n: int
    documents: tuple[str, ...]
    """Empty if they are not returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreAnswer:
    """How the answer of /v1/score is written."""

    model: str


def convert_embeddings(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /v1/embeddings. Raises InvalidArgument."""
    parsed = _parsed(EmbeddingsBody, message, rules, model)
    body = parsed.request
    made = pb.EmbedRequest(
        model=body.model,
        device=body.device or "",
        dimensions=body.dimensions,
        prompt_name=body.prompt_name or "",
        normalize=body.normalize,
        truncation=TRUNCATIONS[body.truncate],
        priority=-(body.priority or 0),
    )
    if body.input_type is not None:
        made.kind = pb.TEXT_KIND_QUERY if body.input_type in _QUERIES else pb.TEXT_KIND_DOCUMENT
    _fill(made, body.input)
    is_single = isinstance(body.input, str) or isinstance(body.input[0], int)
    answer = EmbeddingAnswer(model=body.model, is_base64=body.encoding_format == "base64", is_single=is_single)
    call = read_embed(made.SerializeToString(), rules.bounds)
    return AskedCall(_of_user(call, body.user), _ignored(parsed), answer)


def convert_rerank(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /v1/rerank. Raises InvalidArgument."""
    parsed = _parsed(RerankBody, message, rules, model)
    body = parsed.request
    documents = tuple(given if isinstance(given, str) else given.text for given in body.documents)
    made = pb.ScoreRequest(
        model=body.model,
        queries=[body.query],
        texts=documents,
        device=body.device or "",
        truncation=TRUNCATIONS[body.truncate or "END"],  # Cohere and Jina cut long documents, too
        priority=-(body.priority or 0),
    )
    answer = RerankAnswer(
        model=body.model,
        top_n=min(body.top_n or len(documents), len(documents)),
        documents=documents if body.return_documents else (),
    )
    call = read_score(made.SerializeToString(), rules.bounds)
    return AskedCall(_of_user(call, body.user), _ignored(parsed), answer)


def convert_score(message: bytes, rules: BodyRules, model: str = "") -> AskedCall:
    """Converts a body of /v1/score. Raises InvalidArgument."""
    parsed = _parsed(ScoreBody, message, rules, model)
    body = parsed.request
    first, second = ([text] if isinstance(text, str) else text for text in (body.text_1, body.text_2))
    if len(first) not in {1, len(second)}:
        raise invalid("text_1", f"must be one text, or one for each of the {len(second)} in text_2, not {len(first)}")
    made = pb.ScoreRequest(
        model=body.model,
        queries=first,
        texts=second,
        device=body.device or "",
        truncation=TRUNCATIONS[body.truncate],
        priority=-(body.priority or 0),
    )
    call = read_score(made.SerializeToString(), rules.bounds)
    return AskedCall(_of_user(call, body.user), _ignored(parsed), ScoreAnswer(model=body.model))


def _of_user(call: Call, user: str | None) -> Call:
    """The call, counted as the user's in the fair queue, as a chat is."""
    return call.with_client(user) if user else call


def _parsed(schema: type[BodyT], message: bytes, rules: BodyRules, model: str) -> Parsed[BodyT]:
    check = partial(check_document, model=model)
    return parse_body(schema, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)


def _fill(request: pb.EmbedRequest, given: "str | list[str] | list[int] | list[list[int]]") -> None:
    if isinstance(given, str):
        request.texts.append(given)
        return
    if isinstance(given[0], int):
        request.token_ids.add().ids.extend(element for element in given if isinstance(element, int))
        return
    for element in given:
        if isinstance(element, str):
            request.texts.append(element)
        elif isinstance(element, list):
            request.token_ids.add().ids.extend(element)


def _ignored(parsed: "Parsed[BodyT]") -> tuple[str, ...]:
    return (*parsed.ignored, *list_hints(parsed.request, parsed.request.HINTS))
