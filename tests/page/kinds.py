"""Adds models of other kinds to what the mesh tells the page; the simulated workers have only those that write text."""

from collections.abc import Callable, Sequence

from playwright.sync_api import Page, Route


def add_models(page: Page, kinds: Sequence[str], *, loaded: bool = False) -> None:
    """Adds a model `some-KIND` of each kind to the first endpoint: on its disk, or loaded."""

    def with_kinds(route: Route) -> None:
        told = route.fetch().json()
        first = told["endpoints"][0]
        added = [
            {**first["available"][0], "name": f"some-{kind}", "kind": kind, "state": "ready", "voices": ["a"]}
            for kind in kinds
        ]
        first["models" if loaded else "available"] += added
        route.fulfill(json=told)

    page.route("**/mesh/v1/events", lambda route: route.abort())
    page.route("**/mesh/v1/endpoints", with_kinds)


def telling(answer: object) -> Callable[[Route], None]:
    """Answers each request with this."""
    return lambda route: route.fulfill(json=answer)
