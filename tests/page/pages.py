"""The page as tests use it: what a person would do in the chat, and what they would see."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from playwright.sync_api import CDPSession, Locator, Page, expect

_AXE_FILE = Path(__file__).resolve().parents[2] / "build" / "page" / "axe.min.js"
_AXE = """async () => {
  const { violations } = await axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html} ${node.failureSummary}`).join(" | ")}`);
}"""
_READ_CHATS = """async () => {
  const database = await new Promise((resolve) => {
    const request = indexedDB.open("infermesh");
    request.onsuccess = () => resolve(request.result);
  });
  return new Promise((resolve) => {
    const request = database.transaction("bodies").objectStore("bodies").getAll();
    request.onsuccess = () => resolve(request.result);
  });
}"""


_WATCH_COPIED = """() => {
  window.hasCopied = false;
  const note = ({ target }) => {
    const button = (target.closest ? target : target.parentElement)?.closest("button");
    window.hasCopied ||= button?.textContent === "Copied";
  };
  const watcher = new MutationObserver((changes) => changes.forEach(note));
  watcher.observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


PATIENCE_MS = 30_000


def wait_true(page: Page, expression: str) -> None:
    """Waits until the expression, or what the function gives, is true. Page.wait_for_function needs eval, which the
    page's own policy forbids.
    """
    until_s = monotonic() + PATIENCE_MS / 1e3
    while not page.evaluate(expression):
        assert monotonic() < until_s, f"{expression} stayed false"
        page.wait_for_timeout(50)


@contextmanager
def copying(page: Page) -> Iterator[None]:
    """Waits until a button has said that it copied, which it says for a moment only."""
    page.evaluate(_WATCH_COPIED)
    yield
    wait_true(page, "window.hasCopied")


def main_thread_s(session: CDPSession) -> float:
    """Processor time of the page's main thread so far; needs Performance.enable in the time domain threadTicks."""
    metrics = {each["name"]: float(each["value"]) for each in session.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def check_accessible(page: Page) -> None:
    """Fails with what axe-core finds serious. It is run past the page's own policy, which lets no other script in."""
    page.evaluate(_AXE_FILE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(_AXE)
    assert not found


class ChatPage:
    """The chat."""

    def __init__(self, page: Page, screenshots: Path) -> None:
        self.page = page
        self._screenshots = screenshots

    def open(self, path: str = "/", model: str = "story") -> None:
        """Opens the page and waits until the mesh has told its models."""
        self.page.goto(path)
        expect(self.page.locator("#model")).to_have_value(model)

    @property
    def answers(self) -> Locator:
        return self.page.locator("article.answer")

    @property
    def last(self) -> Locator:
        """The last answer."""
        return self.answers.last

    def settings(self, **values: object) -> None:
        """Sets settings of the chat, by their labels with _ for spaces."""
        self.page.get_by_role("button", name="Settings").click()
        for name, value in values.items():
            self.page.get_by_label(name.replace("_", " ")).first.fill(str(value))
        self.page.get_by_role("button", name="Save").click()

    def send(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def wait_streaming(self) -> None:
        expect(self.last.locator(".text .block").first).to_be_visible()

    def wait_done(self) -> None:
        """Waits until the last answer is complete and its figures are shown."""
        expect(self.last).to_have_attribute("aria-busy", "false")
        expect(self.last.locator(".numbers")).to_be_visible()

    def saved(self) -> list[dict[str, Any]]:
        """The conversations that the browser keeps."""
        chats: list[dict[str, Any]] = self.page.evaluate(_READ_CHATS)
        return chats

    def saved_answers(self) -> list[dict[str, Any]]:
        """All answers that the browser keeps, oldest first."""
        nodes = [node for chat in self.saved() for node in chat["nodes"].values() if node["role"] == "assistant"]
        return sorted(nodes, key=lambda node: float(node["at"]))

    def picture(self, name: str) -> None:
        """Keeps a screenshot."""
        self._screenshots.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=self._screenshots / f"{name}.png")
