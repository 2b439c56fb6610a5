"""Fixtures for the page: a mesh of simulated workers behind the real Envoy, and Debian's Chromium to open it with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.conftest import new_lasting_mesh, new_mesh
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh
from tests.page.pages import PATIENCE_MS, ChatPage
from tests.page.scripted import SCRIPTED

__all__ = ["new_lasting_mesh", "new_mesh"]
SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "page"
CHROMIUM = os.environ.get("INFERMESH_TEST_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_ARGUMENTS = ("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""The microphone beeps, and pages may use it without being asked."""
WIDTH, HEIGHT = 1280, 800


@pytest.fixture(scope="session")
def mesh(new_lasting_mesh: NewMesh) -> Mesh:
    """Two workers with one model, a CPU and an accelerator that is twice as fast; both slow enough to be watched."""
    models = {"model": "story", "sim_models": "story:1GiB,spare:2GiB", "sim_memory_bytes": "16GiB"}
    made = new_lasting_mesh(
        [
            (SIMULATED, {**models, "sim_device": "cpu", "sim_itl_s": 0.02}),
            (SIMULATED, {**models, "sim_device": "xpu", "sim_itl_s": 0.01}),
        ]
    )
    made.start()
    made.wait_ready()
    return made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=[*CHROMIUM_ARGUMENTS])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, mesh: Mesh) -> Iterator[Page]:
    with opened_page(browser, mesh, PATIENCE_MS) as opened:
        yield opened


@contextmanager
def opened_page(browser: Browser, mesh: Mesh, patience_ms: float) -> Iterator[Page]:
    """A page of a browser that was never here. What its console calls an error fails the test."""
    context = browser.new_context(base_url=mesh.envoy.http, viewport={"width": WIDTH, "height": HEIGHT})
    context.set_default_timeout(patience_ms)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("console", lambda message: errors.append(message.text) if _is_fault(message.type, message.text) else None)
    yield opened
    opened.unroute_all(behavior="ignoreErrors")  # a handler may be at work
    context.close()
    assert not errors


def _is_fault(kind: str, text: str) -> bool:
    """Whether the page is at fault; that a request failed is what some tests want."""
    return kind == "error" and not text.startswith("Failed to load resource")


@pytest.fixture
def pictures(page: Page) -> ChatPage:
    """Keeps pictures of the page, wherever it is."""
    return ChatPage(page, SCREENSHOTS)


@pytest.fixture
def chat(page: Page) -> ChatPage:
    """The chat, opened."""
    opened = ChatPage(page, SCREENSHOTS)
    opened.open()
    return opened


@pytest.fixture
def scripted(page: Page, chat: ChatPage) -> ChatPage:
    """The chat, answered by what tests say with answer_with."""
    page.evaluate(SCRIPTED)
    return chat
