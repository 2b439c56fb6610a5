"""A worker that dies in the middle of an answer: the page shows where, and the text is complete."""

import re
import signal

from playwright.sync_api import expect

from tests.e2e.mesh import Mesh, Program
from tests.page.pages import ChatPage

TOKENS, SEED = 260, 11


def test_a_killed_worker_leaves_a_mark_and_no_gap(chat: ChatPage, mesh: Mesh) -> None:
    chat.settings(Longest_answer=TOKENS, Seed=SEED, Stop_strings="")
    chat.page.get_by_label("Device").select_option(mesh.workers[0].address)
    chat.send("Go on whatever happens")
    chat.wait_done()
    undisturbed = chat.saved_answers()[-1]["content"]
    chat.page.get_by_label("Device").select_option("")
    chat.last.get_by_label("Answer again").click()
    chat.wait_streaming()
    expect(chat.last.locator(".text")).to_have_text(re.compile(".{60}", re.DOTALL))
    serving = _serving(mesh)
    serving.process.send_signal(signal.SIGKILL)
    serving.process.wait()
    expect(chat.page.locator(".moved")).to_be_visible()
    chat.picture("chat-moved")
    chat.wait_done()
    expect(chat.last.locator(".numbers")).to_contain_text("once")
    expect(chat.last.locator(".device")).to_have_text(re.compile("^(cpu → xpu|xpu → cpu)$"))
    before_mark = chat.last.locator(".text").inner_text().partition("moved to")[0]
    assert len(before_mark) > 20
    moved = chat.saved_answers()[-1]
    serving.start()
    mesh.wait_ready()
    assert moved["content"] == undisturbed
    assert 0 < moved["moves"][0]["offset"] < len(undisturbed)


def _serving(mesh: Mesh) -> Program:
    """The worker that has a request now."""
    with mesh.http() as http:
        endpoints = http.get("/mesh/v1/endpoints").json()["endpoints"]
    busy = next(each["address"] for each in endpoints if each["in_flight"])
    return next(worker for worker in mesh.workers if worker.address == busy)
