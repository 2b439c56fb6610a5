"""What holds for every view: accessible, dark and light, narrow, small to load, soon usable, nothing from elsewhere."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.mesh import Mesh
from tests.page.conftest import SCREENSHOTS
from tests.page.pages import ChatPage

AXE = Path(__file__).resolve().parents[2] / "build" / "page" / "axe.min.js"
ROOMS = ("chat", "compare", "mesh", "models")
MOST_BYTES, MOST_REQUESTS, MOST_MS = 300_000, 60, 5000
"""The budget is 300 kB compressed and a second on an idle machine; tests run on machines that are not."""
_AXE = """async () => {
  const { violations } = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join(" | ")}`);
}"""


@pytest.fixture
def answered(chat: ChatPage) -> ChatPage:
    """A chat with an answer whose receipt is open."""
    chat.settings(Longest_answer=30)
    chat.send("Say something")
    chat.wait_done()
    chat.last.locator(".who").click()
    return chat


def check_accessible(page: Page) -> None:
    """Fails with what axe-core finds serious. It is run past the page's own policy, which lets no other script in."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_AXE)
    assert not found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(answered: ChatPage, theme: str) -> None:
    page = answered.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type] # one of the two
    check_accessible(page)
    answered.picture(f"chat-{theme}")
    page.get_by_role("button", name="Settings").click()
    check_accessible(page)
    page.keyboard.press("Escape")
    for room in ROOMS[1:]:
        page.goto(f"/#/{room}")
        expect(page.locator(f"main.{room} h1")).to_be_visible()
        check_accessible(page)
        answered.picture(f"{room}-{theme}")


@pytest.mark.parametrize("room", ROOMS)
def test_a_phone_of_360_pixels_has_all_of_it(answered: ChatPage, room: str) -> None:
    page = answered.page
    page.set_viewport_size({"width": 360, "height": 720})
    if room != "chat":
        page.goto(f"/#/{room}")
        expect(page.locator(f"main.{room} h1")).to_be_visible()
    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    answered.picture(f"{room}-360")
    assert overflow <= 0
    assert page.locator("main").evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0


def test_the_keyboard_reaches_everything(chat: ChatPage) -> None:
    page = chat.page
    page.locator("body").press("Tab")
    seen = set()
    for _ in range(40):
        seen.add(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id || document.activeElement.textContent.trim()"))
        page.keyboard.press("Tab")
    assert {"message", "model", "device", "Settings", "Compare", "Mesh", "Models"} <= seen
    page.locator("body").click(position={"x": 640, "y": 100})
    page.keyboard.press("/")
    expect(page.locator("#message")).to_be_focused()


def test_dark_and_light_are_chosen_and_remembered(chat: ChatPage) -> None:
    page = chat.page
    page.get_by_label("Dark theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(each) for each in re.findall(r"\d+", background)[:3]) < 40


def test_the_first_load_keeps_to_its_budget(browser: Browser, mesh: Mesh) -> None:
    context = browser.new_context(base_url=mesh.envoy.http)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    sizes: list[float] = []
    hosts: set[str] = set()
    session.on("Network.loadingFinished", lambda event: sizes.append(float(event["encodedDataLength"])))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/")
    expect(page.locator("#model")).to_have_value("story")
    ready_ms: float = page.evaluate("performance.now()")
    page.wait_for_timeout(300)
    context.close()
    print(f"{sum(sizes) / 1000:.0f} kB in {len(sizes)} requests, ready after {ready_ms:.0f} ms")
    assert sum(sizes) <= MOST_BYTES
    assert len(sizes) <= MOST_REQUESTS
    assert ready_ms <= MOST_MS
    assert hosts == {mesh.envoy.http.split("/")[2]}


def test_the_policy_lets_no_inline_script_run(page: Page, mesh: Mesh) -> None:
    answer: Any = page.goto("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert SCREENSHOTS.parent.exists()
