"""What bodies about texts may contain: every field is honoured, named as ignored, or refused by name."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Field, Tag

from infermesh_router.ollama.schema import KeepAlive, Options
from infermesh_router.openai.schema.fields import NonEmpty, Strict, TokenIds
from infermesh_router.requests.call import MAX_PRIORITY

Hints = Mapping[str, tuple[object, ...]]
"""Fields that are accepted without an effect, and the values that change nothing elsewhere either."""
_MOST_DIMENSIONS = 1 << 20


def _input_tag(value: object) -> str:
    if not isinstance(value, list):
        return "<string>"
    first = value[0] if value else ""
    return "<token lists>" if isinstance(first, list) else "<tokens>" if isinstance(first, int) else "<strings>"


def _string_or_list(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<string>"


def _string_or_object(value: object) -> str:
    return "<object>" if isinstance(value, dict) else "<string>"


Strings = Annotated[list[NonEmpty], Field(min_length=1, fail_fast=True)]
Input = Annotated[
    Annotated[NonEmpty, Tag("<string>")]
    | Annotated[Strings, Tag("<strings>")]
    | Annotated[TokenIds, Tag("<tokens>")]
    | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True), Tag("<token lists>")],
    Discriminator(_input_tag),
]
"""A text, texts, a text as token ids, or several of these."""
OneOrMore = Annotated[
    Annotated[NonEmpty, Tag("<string>")] | Annotated[Strings, Tag("<list>")], Discriminator(_string_or_list)
]
Truncate = Literal["NONE", "END", "START"]
"""What becomes of texts that are too long: they are refused, or lose their end or their beginning."""
TextUse = Literal["query", "search_query", "document", "passage", "search_document"]
Dimensions = Annotated[int, Field(ge=1, le=_MOST_DIMENSIONS)]


class _Common(Strict):
    """The fields that all bodies share."""

    HINTS: ClassVar[Hints] = {}

    model: NonEmpty
    truncate: Truncate | None = None
    user: str | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    """As in vLLM, smaller is served earlier; in the gRPC contract it is the other way round."""
    device: str | None = None


class EmbeddingsBody(_Common):
    """The body of /v1/embeddings."""

    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
    input_type: TextUse | None = None
    """Cohere's and Jina's: what the texts are, which chooses the model's own prompt before them."""
    prompt_name: NonEmpty | None = None
    """sentence-transformers': the prompt of the model's own to put before each text."""
    normalize: bool | None = None
    """Whether each vector has length 1; unset: as the model was trained."""


class DocumentObject(Strict):
    """A document as an object."""

    text: NonEmpty


Document = Annotated[
    Annotated[NonEmpty, Tag("<string>")] | Annotated[DocumentObject, Tag("<object>")], Discriminator(_string_or_object)
]


class RerankBody(_Common):
    """The body of /v1/rerank and /v2/rerank."""

    HINTS: ClassVar[Hints] = {
        "max_tokens_per_doc": (),
        "max_chunks_per_doc": (),
        "rank_fields": (["text"],),
    }

    query: NonEmpty
    documents: Annotated[list[Document], Field(min_length=1, fail_fast=True)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    """How many results to return, the best ones; unset: all."""
    return_documents: bool | None = None
    """Whether results have their documents; unset: they do not."""
    max_tokens_per_doc: Any = None
    """Has no effect: documents are cut where the model's context ends."""
    max_chunks_per_doc: Any = None
    rank_fields: Any = None


class ScoreBody(_Common):
    """The body of /v1/score."""

    text_1: OneOrMore
    text_2: OneOrMore


class OllamaEmbedBody(Strict):
    """The body of /api/embed."""

    HINTS: ClassVar[Hints] = {"keep_alive": (), "options": ({},)}

    model: NonEmpty
    input: str | list[str]
    """An empty text has an empty place in no answer: it is refused; an empty list has an empty answer."""
    truncate: bool | None = None
    """Whether texts that are too long lose their end; unset: they do."""
    dimensions: Dimensions | None = None
    options: Options | None = None
    keep_alive: KeepAlive | None = None
    device: str | None = None


class OllamaEmbeddingsBody(Strict):
    """The body of /api/embeddings, which is older."""

    HINTS: ClassVar[Hints] = {"keep_alive": (), "options": ({},)}

    model: NonEmpty
    prompt: NonEmpty
    options: Options | None = None
    keep_alive: KeepAlive | None = None
    device: str | None = None


TEXT_BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {
    "CreateEmbedding": (EmbeddingsBody,),
    "Rerank": (RerankBody,),
    "Score": (ScoreBody,),
}
"""The schemas of the bodies that calls of OpenAIService take, for /openapi.json."""
OLLAMA_TEXT_BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {"Embed": (OllamaEmbedBody, OllamaEmbeddingsBody)}
"""The same for OllamaService."""


def list_hints(body: Strict, neutral: Hints) -> Iterator[str]:
    """The fields of a body that were set and have no effect."""
    for name in sorted(body.model_fields_set & neutral.keys()):
        given = getattr(body, name)
        if given is not None and given not in neutral[name]:
            yield name
