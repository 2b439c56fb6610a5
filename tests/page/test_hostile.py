"""What models write is shown as text: nothing runs, nothing is fetched, and the page stays quick."""

import json

import pytest
from playwright.sync_api import expect

from tests.page.pages import ChatPage, main_thread_s
from tests.page.scripted import answer_with

_FRAMES = """() => {
  window.frames_ms = [];
  let last = performance.now();
  const tick = (now) => {
    window.frames_ms.push(now - last);
    last = now;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}"""
HOSTILE = (
    "<script>window.pwned = 1</script>\n\n<img src=x onerror='window.pwned = 2'>\n\n[click](javascript:window.pwned=3) "
    "<a href='javascript:window.pwned=4'>here</a>\n\n![picture](http://example.invalid/track.png)\n\n"
    "<svg onload='window.pwned=5'><style>* { display: none }</style>\n\n"
    "[data](data:text/html,<script>alert(1)</script>)\n\n"
    "**bold `never closed\n\n| a | b |\n|---|\n\n```html\n<iframe srcdoc='<script>parent.pwned=6</script>'>"
)
MARKDOWN = (
    "## A heading\n\nSome **bold** words, `code`, and a [link](https://example.com) in a paragraph.\n\n"
    "- one item\n- another item with *emphasis*\n\n"
    "```python\ndef add(a: int, b: int) -> int:\n    return a + b\n```\n\n"
    "| left | right |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n\n"
)


def test_hostile_text_is_shown_and_does_nothing(scripted: ChatPage) -> None:
    asked: list[str] = []
    scripted.page.on("request", lambda request: asked.append(request.url))
    answer_with(scripted, [HOSTILE[i : i + 7] for i in range(0, len(HOSTILE), 7)], every_ms=1)
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    text = scripted.last.locator(".text")
    for shown in ("<script>window.pwned = 1</script>", "onerror=", "example.invalid", "<svg onload", "<iframe srcdoc"):
        expect(text).to_contain_text(shown)
    assert text.locator("script, iframe, svg, style, img, a[href^='javascript'], a[href^='data']").count() == 0
    assert scripted.page.evaluate("window.pwned") is None
    assert not [url for url in asked if "example.invalid" in url or url.endswith("/x")]


def test_hostile_text_of_a_real_worker_does_nothing(chat: ChatPage) -> None:
    text = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'> [x](javascript:alert(1))"
    chat.settings(JSON_schema=json.dumps({"type": "string", "enum": [text]}))
    chat.send("Go")
    chat.wait_done()
    expect(chat.last.locator(".text")).to_contain_text("<script>window.pwned = 1</script>")
    assert chat.page.evaluate("window.pwned") is None
    assert chat.last.locator(".text").locator("script, img, a").count() == 0


def test_text_from_right_to_left_has_its_direction(scripted: ChatPage) -> None:
    answer_with(scripted, ["مرحبا بالعالم\n\n", "Hello"])
    blocks = scripted.last.locator(".text .block")
    expect(blocks).to_have_count(2)
    directions = blocks.evaluate_all("(each) => each.map((block) => getComputedStyle(block).direction)")
    assert directions == ["rtl", "ltr"]


LONG_TEXTS = ["word " * 400_000, "a" * 2_000_000, ("line of a list\n\n- item\n" * 90_000)[:2_000_000]]


@pytest.mark.parametrize("text", LONG_TEXTS, ids=["words", "no space", "lists"])
def test_two_megabytes_leave_the_page_usable(scripted: ChatPage, text: str) -> None:
    answer_with(scripted, [text[i : i + 4000] for i in range(0, len(text), 4000)], every_ms=4)
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    took_ms = scripted.page.evaluate("""async () => {
      const begun = performance.now();
      await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
      return performance.now() - begun;
    }""")
    assert took_ms < 1000
    assert scripted.last.locator(".text").evaluate("(each) => each.textContent.length") > 1_500_000


def test_an_answer_of_5000_tokens_renders_at_30_frames_a_second(scripted: ChatPage) -> None:
    """Counted by the processor time of the page's main thread, because other processes share this machine."""
    pieces = [MARKDOWN[i : i + 4] for i in range(0, len(MARKDOWN), 4)]
    pieces = (pieces * (5000 // len(pieces) + 1))[:5000]
    session = scripted.page.context.new_cdp_session(scripted.page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before_s = main_thread_s(session)
    scripted.page.evaluate(_FRAMES)
    answer_with(scripted, pieces, every_ms=1.5)
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    frames_ms: list[float] = scripted.page.evaluate("window.frames_ms")
    busy_s = main_thread_s(session) - before_s
    wall_s = sum(frames_ms) / 1000
    print(f"{len(frames_ms)} frames in {wall_s:.1f} s, in which the main thread computed for {busy_s:.1f} s")
    assert len(frames_ms) / busy_s >= 30
