"""Receipts on the page: of an answer, of a request that was refused, and of any that the mesh's log names."""

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage, check_accessible, wait_true


def ask(mesh: Mesh, **fields: Any) -> str:
    """Another client's request; returns its id."""
    body = {"model": "story", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, **fields}
    with mesh.http() as http:
        return http.post("/v1/chat/completions", json=body).headers["x-request-id"]


def line_of(page: Page, request_id: str) -> Locator:
    """The log's line about where this request was sent; lines of other tests may be there too."""
    return page.locator(f".log li.choice[data-request='{request_id}']")


def test_the_log_leads_to_the_receipt_of_any_request(page: Page, mesh: Mesh, pictures: ChatPage) -> None:
    page.goto("/#/mesh")
    expect(page.locator(".sign")).to_have_text("2 endpoints ready")
    request_id = ask(mesh, temperature=0.5, frobnicate=1)
    line = line_of(page, request_id)
    expect(line).to_contain_text("Sent to xpu: on the device that models of this size prefer; would be done in")
    expect(line).to_contain_text("; cpu: ")
    line.get_by_role("button", name="receipt").click()
    receipt = page.get_by_role("dialog").get_by_role("region", name="Receipt")
    expect(receipt).to_contain_text(request_id)
    expect(receipt).to_contain_text("asked for text of story")
    expect(receipt.locator("tr", has_text="temperature").locator("td").last).to_have_text("request")
    expect(receipt.locator("tr", has_text="top_p").locator("td").last).to_have_text("mesh")
    expect(receipt).to_contain_text("Had no effect: frobnicate")
    expect(receipt.locator("tr", has_text="cpu")).to_be_visible()
    check_accessible(page)
    pictures.picture("mesh-receipt")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_request_that_is_not_over_has_none_yet(page: Page, mesh: Mesh) -> None:
    page.route("**/mesh/v1/requests/*", lambda route: route.fulfill(status=404, json={"error": {"message": "not yet"}}))
    page.goto("/#/mesh")
    line_of(page, ask(mesh)).get_by_role("button", name="receipt").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_have_text("not yet")
    page.unroute("**/mesh/v1/requests/*")
    page.get_by_role("dialog").get_by_role("button", name="Ask again").click()
    expect(page.get_by_role("dialog").get_by_role("region", name="Receipt")).to_be_visible()


def test_a_refused_question_has_a_receipt(chat: ChatPage) -> None:
    chat.send("a " * 20_000)
    expect(chat.last.get_by_role("alert")).to_contain_text("maximum context length")
    chat.last.locator(".who").click()
    receipt = chat.last.get_by_role("region", name="Receipt")
    expect(receipt).to_contain_text("No endpoint answered")
    expect(receipt).to_contain_text("Context length exceeded.")


def test_plots_are_told_to_those_who_do_not_see_them(page: Page, mesh: Mesh) -> None:
    page.goto("/#/mesh")
    expect(page.locator(".timeline canvas")).to_be_visible()
    ask(mesh, max_tokens=60)
    plot = page.locator(".timeline")
    wait_true(page, "() => / [1-9][0-9.]* tok.s at most/.test(document.querySelector('.timeline').ariaLabel)")
    told = plot.get_attribute("aria-label") or ""
    assert told.startswith("Tokens per second over the last 5 minutes. xpu ")
    assert "; cpu " in told
