"""The page with real workers: worker-cpu beside worker-xpu, both on the processor, with the default model."""

import json
import re
import time
from collections.abc import Iterator

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.mesh import CPU, MODEL, XPU, Mesh, NewMesh, Program
from tests.page.conftest import SCREENSHOTS, opened_page
from tests.page.pages import ChatPage

pytestmark = [pytest.mark.torch, pytest.mark.timeout(900)]

READY_TIMEOUT_S = 300.0
PATIENCE_MS = 240_000
"""torch takes long to import, and both workers share the processor with the browser."""
TOKENS = 64
FIGURES = SCREENSHOTS / "real-workers.json"
QUESTION = "Tell me about the sea."


@pytest.fixture(scope="module")
def mesh(new_mesh: NewMesh) -> Iterator[Mesh]:
    exact = {"numerics": "exact"}
    slow = {"stall_timeout_s": 60.0, "first_token_timeout_s": 120.0}
    made = new_mesh([(CPU, exact), (XPU, {**exact, "device": "cpu"})], **slow)
    made.start()
    made.wait_ready(READY_TIMEOUT_S)
    yield made
    made.stop()


@pytest.fixture
def chat(browser: Browser, mesh: Mesh) -> Iterator[ChatPage]:
    expect.set_options(timeout=PATIENCE_MS)
    with opened_page(browser, mesh, PATIENCE_MS) as page:
        opened = ChatPage(page, SCREENSHOTS)
        opened.open(f"/#manage={mesh.manage_key}", MODEL)
        opened.settings(Longest_answer=TOKENS, Temperature=0)
        yield opened


def note(**figures: object) -> None:
    """Keeps figures of this run beside the screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    known = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    FIGURES.write_text(json.dumps({**known, **figures}, indent=1))


def choose(page: Page, worker: Program) -> None:
    """Chooses the device that answers."""
    page.get_by_label("Device").first.select_option(worker.address)


def name_of(mesh: Mesh, worker: Program) -> str:
    """The endpoint's name on the page."""
    with mesh.http() as http:
        endpoints = http.get("/mesh/v1/endpoints").json()["endpoints"]
    return str(next(each["name"] for each in endpoints if each["address"] == worker.address))


def rows(table: Locator) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]


def test_two_workers_side_by_side(chat: ChatPage) -> None:
    page = chat.page
    page.get_by_role("link", name="Compare").click()
    lanes = page.locator("select[id^=lane-device]")
    expect(lanes).to_have_count(2)
    chosen = sorted(lane.locator("option:checked").inner_text().split(" · ")[1] for lane in lanes.all())
    assert chosen == ["openvino", "torch"], "two workers on one processor can be told apart"
    page.get_by_label("Longest answer").first.fill(str(TOKENS))
    page.get_by_role("button", name="Run in 2 lanes").click()
    figures = page.get_by_label("Figures", exact=True)
    expect(figures.locator("tbody tr")).to_have_count(2)
    found = rows(figures)
    assert [row[5] for row in found] == [str(TOKENS)] * 2
    assert sorted(row[0].partition(" ")[2] for row in found) == ["(openvino)", "(torch)"]
    chat.picture("real-compare")
    note(side_by_side=found)


def test_how_far_they_agree(chat: ChatPage) -> None:
    page = chat.page
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("button", name="Agreement", exact=True).click()
    page.get_by_label("Tokens at most").fill("32")
    page.get_by_role("button", name="Compare the answers").click()
    table = page.get_by_label("Agreement of the lanes")
    expect(table.locator("tbody tr")).to_have_count(2)
    found = rows(table)
    chat.picture("real-agreement")
    note(agreement=found)
    assert float(found[1][2].removesuffix("%")) > 60, "they part at near ties only"


def test_the_device_is_switched_within_a_chat(chat: ChatPage, mesh: Mesh) -> None:
    for number, worker in enumerate(mesh.workers, 1):
        choose(chat.page, worker)
        chat.send(QUESTION)
        expect(chat.answers).to_have_count(number)
        chat.wait_done()
        expect(chat.last.locator(".device")).to_have_text(name_of(mesh, worker))
        expect(chat.last.locator(".why")).to_have_text("you named it")


@pytest.mark.parametrize("part", ["engine", "worker"])
def test_a_killed_worker_leaves_a_mark_and_a_complete_text(chat: ChatPage, mesh: Mesh, part: str) -> None:
    undisturbed = []
    for number, worker in enumerate(mesh.workers, 1):
        choose(chat.page, worker)
        chat.send(QUESTION) if number == 1 else chat.last.get_by_label("Answer again").click()
        expect(chat.last.locator(".device")).to_have_text(name_of(mesh, worker))
        chat.wait_done()
        undisturbed.append(chat.saved_answers()[-1]["content"])
    chat.page.get_by_label("Device").first.select_option("")
    chat.last.get_by_label("Answer again").click()
    chat.wait_streaming()
    expect(chat.last.locator(".text")).to_have_text(re.compile(".{30}", re.DOTALL))
    serving = _serving(mesh)
    killed_s = time.monotonic()
    psutil.Process(serving.engine_pid() if part == "engine" else serving.process.pid).kill()
    expect(chat.page.locator(".moved")).to_be_visible()
    moved_s = time.monotonic() - killed_s
    chat.picture(f"real-moved-{part}")
    chat.wait_done()
    answer = chat.saved_answers()[-1]
    if part == "worker":
        serving.process.wait()
        serving.start()
    mesh.wait_ready(READY_TIMEOUT_S)
    note(**{f"moved_after_kill_of_{part}_s": round(moved_s, 2), "undisturbed_is_the_same": len({*undisturbed}) == 1})
    assert answer["stats"]["completionTokens"] == TOKENS
    assert [move["tokens"] > 0 for move in answer["moves"]] == [True]
    begun = undisturbed[mesh.workers.index(serving)][: answer["moves"][0]["offset"]]
    assert begun
    assert answer["content"].startswith(begun)
    assert len({*undisturbed}) == 2 or answer["content"] == undisturbed[0]


def _serving(mesh: Mesh) -> Program:
    """The worker that has a request now."""
    with mesh.http() as http:
        endpoints = http.get("/mesh/v1/endpoints").json()["endpoints"]
    busy = next(each["address"] for each in endpoints if each["in_flight"])
    return next(worker for worker in mesh.workers if worker.address == busy)


def test_a_drained_worker_gets_nothing_and_comes_back(chat: ChatPage, mesh: Mesh) -> None:
    page, name = chat.page, name_of(mesh, mesh.workers[0])
    page.get_by_role("link", name="Mesh", exact=True).click()
    page.get_by_label(f"Drain {name}").click()
    state = page.get_by_label(f"Endpoint {name}", exact=True).locator(".state")
    expect(state).to_have_text("draining")
    page.get_by_role("link", name="Chat", exact=True).click()
    for number in (1, 2):
        chat.send(QUESTION)
        expect(chat.answers).to_have_count(number)
        chat.wait_done()
        expect(chat.last.locator(".device")).to_have_text(name_of(mesh, mesh.workers[1]))
    page.get_by_role("link", name="Mesh", exact=True).click()
    chat.picture("real-mesh")
    page.get_by_label(f"Resume {name}").click()
    expect(state).to_have_text("ready")
    page.get_by_role("link", name="Chat", exact=True).click()
    choose(page, mesh.workers[0])
    chat.send(QUESTION)
    expect(chat.answers).to_have_count(3)
    chat.wait_done()
    expect(chat.last.locator(".device")).to_have_text(name)
