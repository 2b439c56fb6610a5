"""What holds for every view: accessible, dark and light, narrow, small to load, soon usable, nothing from elsewhere."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.mesh import Mesh
from tests.page.conftest import SCREENSHOTS
from tests.page.pages import ChatPage, check_accessible, main_thread_s

FILES = Path(__file__).resolve().parents[2] / "services/router/src/infermesh_router/page/files"
ROOMS = ("chat", "compare", "mesh", "models")
MOST_BYTES, MOST_REQUESTS, MOST_BUSY_S = 300_000, 60, 1.0
"""The budget of the first load: bytes compressed, and processor time of the main thread until one can chat.

The time by the clock is a second on an idle machine; tests share theirs, so build/page/first-load.json only notes it.
"""
_FOCUSED = """(() => {
  const { id, textContent, ariaLabel } = document.activeElement;
  return ariaLabel || id || textContent.trim();
})()"""


@pytest.fixture
def answered(chat: ChatPage) -> ChatPage:
    """A chat with an answer whose receipt is open."""
    chat.settings(Longest_answer=30)
    chat.send("Say something")
    chat.wait_done()
    chat.last.locator(".who").click()
    return chat


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


def test_what_a_new_chat_shows_begins_below_its_head(chat: ChatPage) -> None:
    """On a low screen it is scrolled, and not cut off above."""
    chat.page.set_viewport_size({"width": 360, "height": 500})
    head = chat.page.locator(".talk-head").bounding_box()
    words = chat.page.locator(".welcome h2").bounding_box()
    assert head
    assert words
    assert words["y"] >= head["y"] + head["height"]


def test_the_keyboard_reaches_everything(chat: ChatPage) -> None:
    page = chat.page
    page.locator("body").press("Tab")
    seen = set()
    for _ in range(40):
        seen.add(page.evaluate(_FOCUSED))
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


def test_the_theme_follows_the_system_until_one_is_chosen(chat: ChatPage) -> None:
    page, second = chat.page, chat.page.context.new_page()
    page.emulate_media(color_scheme="dark")
    expect(page.get_by_label("Light theme")).to_be_visible()
    page.emulate_media(color_scheme="light")
    page.get_by_label("Dark theme").click()
    second.goto("/")
    expect(second.get_by_label("Light theme")).to_be_visible()
    page.get_by_label("Light theme").click()  # as the system is: nothing is chosen any more
    expect(second.get_by_label("Dark theme")).to_be_visible()
    for tab in (page, second):
        tab.emulate_media(color_scheme="dark")
        expect(tab.get_by_label("Light theme")).to_be_visible()
        expect(tab.locator("html")).not_to_have_attribute("data-theme", re.compile("."))


def test_the_first_load_keeps_to_its_budget(browser: Browser, mesh: Mesh) -> None:
    context = browser.new_context(base_url=mesh.envoy.http)
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    sizes: list[float] = []
    hosts: set[str] = set()
    session.on("Network.loadingFinished", lambda event: sizes.append(float(event["encodedDataLength"])))
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.goto("/")
    expect(page.locator("#model")).to_have_value("story")
    ready_ms: float = page.evaluate("performance.now()")
    busy_s = main_thread_s(session)
    context.close()
    figures = {"bytes": sum(sizes), "requests": len(sizes), "busy_s": busy_s, "ready_ms": ready_ms}
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / "first-load.json").write_text(json.dumps({**figures, "load_average": os.getloadavg()[0]}))
    assert sum(sizes) <= MOST_BYTES
    assert len(sizes) <= MOST_REQUESTS
    assert busy_s <= MOST_BUSY_S
    assert hosts == {mesh.envoy.http.split("/")[2]}


def test_what_the_first_room_needs_is_asked_for_at_once() -> None:
    """Modules that the chat imports are named in the page, so that none is found only after another has come."""
    needed: set[str] = set()
    missing = [FILES / "app.js"]
    while missing:
        path = missing.pop()
        needed.add(path.relative_to(FILES).as_posix())
        imports = re.findall(r'^(?:import|export)\b[^;]*?"(\.[^"]+)";', path.read_text(encoding="utf-8"), re.MULTILINE)
        found = {(path.parent / each).resolve() for each in imports}
        missing += [each for each in found if each.relative_to(FILES).as_posix() not in needed]
    page = (FILES / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:modulepreload" href|module" src)="ui/([^"]+)"', page)) == needed


def test_the_policy_lets_no_inline_script_run(page: Page, mesh: Mesh) -> None:
    answer: Any = page.goto("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert SCREENSHOTS.parent.exists()
