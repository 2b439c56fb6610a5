"""What tests of the Compare room share: its views, their buttons, and lanes that are refused."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from playwright.sync_api import Locator, Page, Route, expect

VIEWS = {"One prompt": "Run in 2 lanes", "Agreement": "Compare the answers", "Benchmark": "Run the benchmark"}
"""The button that runs each."""
COMPLETIONS = re.compile(r"/v1/(chat/)?completions")


def open_compare(page: Page) -> Page:
    """Opens the room, with two lanes and short answers."""
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("group", name=re.compile("Lane [12]"))).to_have_count(2)
    for view, limit in zip(reversed(VIEWS), ("Tokens of each answer", "Tokens at most", "Longest answer"), strict=True):
        shown(page, view).click()
        page.get_by_label(limit).fill("8" if view == "Benchmark" else "12")
    return page


def shown(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True).locator("visible=true")


def run(page: Page, view: str) -> Locator:
    """Opens a view and returns the button that runs it."""
    page.get_by_role("button", name=view, exact=True).click()
    return shown(page, VIEWS[view])


def figures(page: Page) -> Locator:
    return page.get_by_label("Figures", exact=True).locator("tbody tr")


def tokens(page: Page) -> list[str]:
    """What the figures say in the column Tokens."""
    titles = page.get_by_label("Figures", exact=True).locator("thead th").all_inner_texts()
    return figures(page).locator(f"td:nth-child({titles.index('Tokens') + 1})").all_inner_texts()


def for_device(address: str, answer: Callable[[Route], None]) -> Callable[[Route], None]:
    """Answers requests that name the device, and lets others pass."""

    def carry(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        if body.get("device") == address:
            answer(route)
        else:
            route.continue_()

    return carry


def refuse(route: Route) -> None:
    route.fulfill(status=429, json={"error": {"message": "The queue for 'story' is full (1024 waiting)."}})


class _BreaksOff(BaseHTTPRequestHandler):
    """Begins an answer of text in chunks, and closes the connection before it is complete."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        event = b'data: {"choices": [{"index": 0, "text": "a", "delta": {"content": "a"}}]}\n\n'
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def breaking_off() -> Iterator[Callable[[Route], None]]:
    """Answers requests from a server whose connections break in the middle of the answer."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _BreaksOff) as server:
        Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        yield lambda route: route.continue_(url=address)
        server.shutdown()
