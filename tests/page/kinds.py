"""Adds models of other kinds to what the mesh tells the page; the simulated workers have only those that write text."""

from collections.abc import Callable, Sequence
from typing import Any

from playwright.sync_api import Page, Route

Endpoints = list[dict[str, Any]]


def retell(page: Page, change: Callable[[Endpoints], None]) -> None:
    """Changes what the page hears of the mesh's endpoints."""

    def changed(route: Route) -> None:
        told = route.fetch().json()
        change(told["endpoints"])
        route.fulfill(json=told)

    page.route("**/mesh/v1/events", lambda route: route.abort())
    page.route("**/mesh/v1/endpoints", changed)


def add_models(page: Page, kinds: Sequence[str], *, loaded: bool = False) -> None:
    """Adds a model `some-KIND` of each kind to the first endpoint: on its disk, or loaded."""

    def with_kinds(endpoints: Endpoints) -> None:
        first = endpoints[0]
        first["models" if loaded else "available"] += [made(first, kind) for kind in kinds]

    retell(page, with_kinds)


def made(endpoint: dict[str, Any], kind: str, **others: object) -> dict[str, Any]:
    """A model of that kind, as the mesh describes it."""
    like = endpoint["available"][0]
    return {**like, "name": f"some-{kind}", "kind": kind, "state": "ready", "voices": ["a"], **others}


def telling(answer: object) -> Callable[[Route], None]:
    """Answers each request with this."""
    return lambda route: route.fulfill(json=answer)
