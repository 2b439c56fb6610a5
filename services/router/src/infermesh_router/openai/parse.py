"""Parses a request body: JSON, then the schema, then the rule for unknown fields."""

from codecs import BOM_UTF8
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import JSONDecoder
from typing import Any, Generic, TypeVar

import jiter
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infermesh_router.openai.errors import format_path, from_validation, locate
from infermesh_runtime.errors import InvalidArgument

_MAX_PROBLEMS = 1000
_decoder = JSONDecoder()

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[ModelT]):
    """A valid body."""

    request: ModelT
    ignored: tuple[str, ...] = ()
    """Paths of the unknown fields that were ignored."""


def parse_body(
    schema: type[ModelT],
    body: bytes,
    *,
    ignore_unknown: bool,
    check: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Parsed[ModelT]:
    """Parses a body. Raises InvalidArgument with the bad field, or with the position at which the JSON is malformed.

    An unknown field that is null counts as absent. `check` sees the document before the schema does.
    """
    document = parse_json(body)
    check(document)
    return parse_document(schema, document, ignore_unknown=ignore_unknown)


def parse_document(schema: type[ModelT], document: dict[str, Any], *, ignore_unknown: bool) -> Parsed[ModelT]:
    """The same for a document that is parsed; unknown fields that are ignored are removed from it."""
    try:
        return Parsed(schema.model_validate(document))
    except ValidationError as error:
        problems = _list_problems(error)
    if refused := [problem for problem in problems if not _is_passed_over(problem, ignore_unknown)]:
        raise from_validation(refused)
    for problem in problems:
        _remove(document, locate(problem))
    ignored = tuple(format_path(locate(problem)) for problem in problems if problem["input"] is not None)
    return Parsed(schema.model_validate(document), ignored)


def _is_passed_over(problem: ErrorDetails, ignore_unknown: bool) -> bool:
    return problem["type"] == "extra_forbidden" and (ignore_unknown or problem["input"] is None)


def parse_json(body: bytes) -> dict[str, Any]:
    """Parses a JSON object. Raises InvalidArgument."""
    try:
        document = jiter.from_json(
            body.removeprefix(BOM_UTF8), allow_inf_nan=False, catch_duplicate_keys=True, float_mode="float"
        )
    except ValueError as error:
        raise InvalidArgument(f"The body is not valid JSON: {error}.", reason="INVALID_JSON") from None
    if not isinstance(document, dict):
        raise InvalidArgument("The body must be a JSON object.", reason="INVALID_JSON")
    return document


def _list_problems(error: ValidationError) -> list[ErrorDetails]:
    """All problems of a body. If there are too many to list, raises InvalidArgument for the first."""
    if error.error_count() <= _MAX_PROBLEMS:
        return error.errors(include_url=False)
    # a 64 MiB body can have millions of problems, and listing them would block every stream of the router
    text = error.json(include_url=False, include_context=False, include_input=False)
    first, _ = _decoder.raw_decode(text, 1)
    raise from_validation([first])


def _remove(document: Any, location: Sequence[str | int]) -> None:
    """Removes the field at `location` from the document."""
    *parents, last = location
    for part in parents:
        document = document[part]
    del document[last]
