"""Answers that end early: stopped before their first byte or outside the message, broken off, left by a reload."""

import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage

BREAKING = """() => {
  const real = window.fetch;
  window.fetch = (url, options) => {
    if (!String(url).endsWith("v1/chat/completions")) return real(url, options);
    const line = new TextEncoder().encode('data: {"choices": [{"index": 0, "delta": {"content": "It was"}}]}\\n\\n');
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(line);
        window.breakNow = () => controller.error(new TypeError("network error"));
      },
    });
    return Promise.resolve(new Response(body));
  };
}"""
"""Answers break when breakNow is called, as Chromium tells of it when the network is gone."""
ENTER = """(more) => {
  const told = { key: "Enter", bubbles: true, cancelable: true, ...more };
  document.getElementById("message").dispatchEvent(new KeyboardEvent("keydown", told));
}"""


def hold(page: Page, address: str | re.Pattern[str]) -> list[Route]:
    """Keeps requests from being answered; returns those that came, as they come."""
    held: list[Route] = []

    def keep(route: Route) -> None:
        held.append(route)

    page.route(address, keep)
    return held


@pytest.fixture
def talking(chat: ChatPage, mesh: Mesh) -> ChatPage:
    """A chat in which a long answer streams."""
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    return chat


def test_who_stops_before_the_first_byte_writes_on_at_once(chat: ChatPage) -> None:
    hold(chat.page, "**/v1/chat/completions")
    with chat.page.expect_request("**/v1/chat/completions"):
        chat.send("Say something")
    chat.page.get_by_label("Stop", exact=True).click()
    expect(chat.page.get_by_label("Send", exact=True)).to_be_visible()
    expect(chat.last).to_contain_text("You stopped this answer")


def test_a_receipt_that_does_not_come_keeps_nobody_from_writing(talking: ChatPage) -> None:
    page = talking.page
    held = hold(page, "**/mesh/v1/requests/*")
    with page.expect_request("**/mesh/v1/requests/*"):
        page.get_by_label("Stop", exact=True).click()
    expect(page.get_by_label("Send", exact=True)).to_be_visible()
    expect(talking.last).to_contain_text("You stopped this answer")
    assert talking.saved_answers()[-1]["status"] == "stopped"
    held[0].continue_()
    talking.last.locator(".who").click()
    expect(talking.last.get_by_role("region", name="Receipt")).to_contain_text("Where the time went")


def test_escape_stops_wherever_the_focus_is(talking: ChatPage) -> None:
    talking.page.locator("article.question .bubble").click()
    talking.page.keyboard.press("Escape")
    expect(talking.last).to_contain_text("You stopped this answer")


def test_escape_closes_a_dialog_and_the_answer_goes_on(talking: ChatPage) -> None:
    talking.page.get_by_role("button", name="Settings").click()
    expect(talking.page.get_by_role("dialog")).to_be_visible()
    talking.page.keyboard.press("Escape")
    expect(talking.page.get_by_role("dialog")).to_have_count(0)
    expect(talking.last).to_have_attribute("aria-busy", "true")
    talking.page.keyboard.press("Escape")
    expect(talking.last).to_contain_text("You stopped this answer")


def test_a_broken_connection_is_told_in_our_words(chat: ChatPage) -> None:
    chat.page.evaluate(BREAKING)
    chat.send("Once upon a time")
    expect(chat.last.locator(".text")).to_have_text("It was")
    chat.page.evaluate("breakNow()")
    expect(chat.last.get_by_role("alert")).to_have_text("The connection broke before the answer was complete.")
    expect(chat.last.locator(".text")).to_have_text("It was")
    expect(chat.page.get_by_label("Send", exact=True)).to_be_visible()


def test_a_reload_keeps_what_had_come(talking: ChatPage) -> None:
    expect(talking.last.locator(".text")).not_to_have_text("")
    length = talking.last.locator(".text").evaluate("(each) => each.textContent.length")
    talking.page.reload()
    expect(talking.last).to_contain_text("The page was closed while this answer came.")
    assert talking.last.locator(".text").evaluate("(each) => each.textContent.length") >= length


def test_an_old_message_is_not_sent_again_while_an_answer_comes(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=5)
    chat.send("One")
    chat.wait_done()
    page.locator("article.question").hover()
    page.get_by_label("Edit and send again").click()
    page.get_by_label("Edit the message").fill("Two")
    chat.settings(Longest_answer=2000)
    chat.send("Meanwhile")
    chat.wait_streaming()
    page.get_by_label("Edit the message").press("Enter")
    expect(page.locator("form.editor button[type=submit]")).to_be_disabled()
    page.get_by_label("Stop", exact=True).click()
    page.get_by_label("Edit the message").press("Enter")
    expect(page.locator("article.question .bubble")).to_have_text("Two")


@pytest.mark.parametrize("composing", [{"isComposing": True}, {"keyCode": 229}], ids=["Chromium", "Safari"])
def test_enter_that_chooses_a_word_sends_nothing(chat: ChatPage, composing: dict[str, object]) -> None:
    message = chat.page.get_by_label("Message", exact=True)
    message.fill("にほん")
    chat.page.evaluate(ENTER, composing)
    expect(message).to_have_value("にほん")
    expect(chat.answers).to_have_count(0)
    chat.page.evaluate(ENTER, {})
    expect(chat.page.locator("article.question .bubble")).to_have_text("にほん")


def test_a_refused_question_is_asked_again_by_a_button(chat: ChatPage) -> None:
    full = {"error": {"message": "The queue for 'story' is full. Retry in 7 s.", "code": "queue_full"}}
    chat.settings(Longest_answer=5)
    chat.page.route("**/v1/chat/completions", lambda route: route.fulfill(status=429, json=full), times=1)
    chat.send("Are you busy?")
    expect(chat.last.get_by_role("alert")).to_have_text("The queue for 'story' is full. Retry in 7 s.")
    expect(chat.last.get_by_label("Copy the answer")).to_have_count(0)
    chat.last.get_by_role("button", name="Try again").click()
    chat.wait_done()
    expect(chat.page.locator("article.question")).to_have_count(1)


def test_a_question_that_no_model_can_take_stays_in_the_message(page: Page, chat: ChatPage) -> None:
    page.route("**/mesh/v1/**", lambda route: route.abort())
    page.evaluate("localStorage.clear()")
    page.reload()
    expect(page.locator(".sign")).to_contain_text("no connection")
    for _ in range(2):
        chat.send("Anybody there?")
    expect(page.get_by_role("status").first).to_contain_text("The mesh does not answer, so there is no model to ask.")
    expect(page.locator("#message")).to_have_value("Anybody there?")
    expect(page.locator("article")).to_have_count(0)
    assert page.locator(".heads li").count() == 0


def test_tokens_that_came_all_at_once_have_the_speed_that_the_receipt_tells(chat: ChatPage) -> None:
    """A proxy may hold an answer back until it is complete."""
    chat.page.route("**/v1/chat/completions", lambda route: route.fulfill(response=route.fetch()))
    chat.settings(Longest_answer=50)
    chat.send("All at once")
    chat.wait_done()
    expect(chat.last.locator(".who")).not_to_contain_text("unknown")
    chat.last.locator(".who").click()
    expect(chat.last.get_by_role("region", name="Receipt")).to_contain_text("Where the time went")
    assert 1 < chat.saved_answers()[-1]["stats"]["tokensPerS"] < 1000


def test_dialogs_that_ask_for_a_text_have_the_focus_in_it(chat: ChatPage) -> None:
    chat.settings(Longest_answer=5)
    chat.send("One")
    chat.wait_done()
    chat.page.get_by_label("Rename One").click()
    expect(chat.page.get_by_role("textbox", name="Name")).to_be_focused()
    chat.page.keyboard.type("Another")
    chat.page.keyboard.press("Enter")
    expect(chat.page.locator(".head-title")).to_have_text("Another")
