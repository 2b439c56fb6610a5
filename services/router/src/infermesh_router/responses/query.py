"""Reads what the query string of a call asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

from infermesh_router.openai.errors import invalid

_LARGEST_PAGE = 100
_PAGE = 20


@dataclass(frozen=True, slots=True)
class PageWanted:
    """Which part of a list is wanted."""

    after: str
    """The id of the item before it; empty: from the beginning."""
    limit: int
    newest_first: bool


def page_wanted(query: Mapping[str, str]) -> PageWanted:
    """Which items to list. Raises InvalidArgument."""
    limit, order = query.get("limit", str(_PAGE)), query.get("order", "desc")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= _LARGEST_PAGE:
        raise invalid("limit", f"must be a whole number from 1 to {_LARGEST_PAGE}")
    if order not in ("asc", "desc"):
        raise invalid("order", 'must be "asc" or "desc"')
    return PageWanted(query.get("after", ""), int(limit), order == "desc")


def refuse_streaming(query: Mapping[str, str]) -> None:
    """Refuses to stream a kept response. Raises InvalidArgument."""
    if query.get("stream", "false").lower() not in ("false", "0", ""):
        raise invalid(
            "stream",
            "is not supported when a response is retrieved: its events are not kept",
            reason="UNSUPPORTED_PARAMETER",
        )
