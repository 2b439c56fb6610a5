"""Who manages the mesh on the page: whoever opened it with the secret that `infermesh ui` knows."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, Route, expect

from infermesh_client.mesh.manage_key import managing_url, write_opening
from infermesh_client.settings import Home
from tests.e2e.mesh import Mesh
from tests.page.pages import check_accessible

HEADER = "x-infermesh-manage-key"
HINT = "Open the page with infermesh ui to drain and load."


@pytest.fixture
def asked(page: Page) -> list[Request]:
    """What the page asks for."""
    requests: list[Request] = []

    def note(request: Request) -> None:  # Playwright marks its handlers, which a method of a list cannot bear
        requests.append(request)

    page.on("request", note)
    return requests


def show_endpoints(page: Page) -> None:
    page.get_by_role("link", name="Mesh", exact=True).click()
    expect(page.get_by_label("Endpoint cpu", exact=True)).to_contain_text("ready")


def test_the_owner_drains_and_resumes(page: Page, mesh: Mesh, asked: list[Request]) -> None:
    page.goto(f"/#manage={mesh.manage_key}")
    expect(page).to_have_url(f"{mesh.envoy.http}/")
    show_endpoints(page)
    page.get_by_label("Drain cpu").click()
    state = page.get_by_label("Endpoint cpu", exact=True).locator(".state")
    expect(state).to_have_text("draining")
    page.reload()  # the browser keeps the secret
    page.get_by_label("Resume cpu").click()
    expect(state).to_have_text("ready")
    expect(page.get_by_text(HINT)).to_have_count(0)
    mesh.wait_ready()
    for request in asked:
        about_the_mesh = urlsplit(request.url).path.startswith("/mesh/v1/")
        assert request.headers.get(HEADER) == (mesh.manage_key if about_the_mesh else None), request.url
        assert mesh.manage_key not in request.url.partition("#")[0]


@pytest.mark.parametrize("secret", ["", "#manage=wrong", "#manage=%E2%82%AC", "#manage=%"])
def test_others_are_told_how(page: Page, mesh: Mesh, secret: str) -> None:
    page.goto(f"/{secret}")
    show_endpoints(page)
    expect(page.get_by_text(HINT)).to_be_visible()
    expect(page.get_by_label("Drain cpu")).to_have_count(0)
    page.get_by_role("link", name="Models").click()
    expect(page.get_by_text("Open the page with infermesh ui to load, import and remove models.")).to_be_visible()
    expect(page.get_by_role("button", name="Load", exact=False)).to_have_count(0)


def test_a_new_secret_replaces_the_old_one(page: Page, mesh: Mesh) -> None:
    page.goto("/#manage=of-the-mesh-before")
    show_endpoints(page)
    expect(page.get_by_text(HINT)).to_be_visible()
    page.goto(f"/#manage={mesh.manage_key}")
    show_endpoints(page)
    expect(page.get_by_label("Drain cpu")).to_be_visible()
    assert mesh.manage_key in page.evaluate("localStorage.getItem('infermesh.manage')")


def test_a_secret_that_the_mesh_does_not_know_replaces_none(page: Page, mesh: Mesh) -> None:
    page.goto(f"/#manage={mesh.manage_key}")
    show_endpoints(page)
    with page.expect_response(lambda answer: answer.request.headers.get(HEADER) == "of-another-site"):
        page.goto("/?again#manage=of-another-site")
    assert page.evaluate("location.search + location.hash") == "?again"
    page.reload()
    show_endpoints(page)
    expect(page.get_by_label("Drain cpu")).to_be_visible()


def test_the_file_that_a_browser_is_given_leads_to_the_page(page: Page, mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = write_opening(Home(tmp_path, tmp_path), managing_url(f"{mesh.envoy.http}/", mesh.manage_key))
    page.goto(file.as_uri())
    expect(page).to_have_url(f"{mesh.envoy.http}/")
    show_endpoints(page)
    expect(page.get_by_label("Drain cpu")).to_be_visible()


def test_who_has_a_key_enters_it_once(page: Page, mesh: Mesh) -> None:
    page.goto("/")
    show_endpoints(page)
    page.get_by_role("button", name="Enter a key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key").fill("not-the-key")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("does not take this key")
    check_accessible(page)
    dialog.get_by_label("Key").fill(f" {mesh.manage_key} ")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Drain cpu")).to_be_visible()
    expect(dialog).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Drain cpu")).to_be_visible()


def refuse_without_secret(page: Page, mesh: Mesh) -> list[str]:
    """As a mesh with API keys does; returns a list that grows with each call that was refused."""
    refused: list[str] = []

    def answer(route: Route) -> None:
        if route.request.headers.get(HEADER) == mesh.manage_key:
            return route.continue_()
        refused.append(route.request.url)
        return route.fulfill(status=401, json={"error": {"message": "This mesh wants an API key."}})

    page.route("**/mesh/v1/*", answer)
    return refused


@pytest.mark.parametrize("key", ["", "revoked"])
def test_the_owner_needs_no_key_and_nobody_is_asked_twice(page: Page, mesh: Mesh, key: str) -> None:
    refused = refuse_without_secret(page, mesh)
    page.add_init_script(f"localStorage.setItem('infermesh.key', {json.dumps(json.dumps(key))})")
    page.clock.install()
    page.goto("/")
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Close").click()
    expect(dialog).to_have_count(0)
    before = len(refused)
    page.clock.run_for(20_000)
    expect(page.locator(".sign")).to_have_text("no connection")
    assert len(refused) == before
    page.goto(f"/#manage={mesh.manage_key}")
    page.clock.run_for(1000)
    expect(page.locator(".sign")).to_contain_text("ready")
