"""Answers and chats afterwards: continued where they were cut off, read while more comes, found, brought twice."""

import json
from typing import Any

from playwright.sync_api import expect

from tests.page.pages import ChatPage
from tests.page.scripted import answer_endlessly, end_answer
from tests.page.test_imported_chats import answer, bring, question, told
from tests.page.test_interrupted import hold

FROM_END = "(each) => each.scrollHeight - each.scrollTop - each.clientHeight"


def test_an_answer_that_was_cut_off_is_continued(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=40, Seed=3)
    chat.send("Tell me")
    chat.wait_done()
    expect(chat.last.locator(".numbers")).to_contain_text("Modelstory")
    before = chat.saved_answers()[-1]["content"]
    with page.expect_request("**/v1/chat/completions") as sent:
        chat.last.get_by_role("button", name="Continue", exact=True).click()
    body: Any = sent.value.post_data_json
    assert body["continue_final_message"] is True
    assert body["messages"][-1] == {"role": "assistant", "content": before}
    expect(chat.last).to_have_attribute("aria-busy", "false")
    expect(chat.last.get_by_role("button", name="Continue", exact=True)).to_be_visible()
    after = chat.saved_answers()[-1]["content"]
    assert after.startswith(before)
    assert len(after) > len(before)
    expect(chat.answers).to_have_count(1)


def test_an_answer_held_to_a_schema_is_not_continued(chat: ChatPage) -> None:
    """The worker would begin a second document behind the part of the first."""
    bring(chat, told("cut", question("q", "Go"), answer("a", '{"a": ', "q", status="stopped")))
    chat.page.get_by_role("link", name="Title cut").click()
    more = chat.last.get_by_role("button", name="Continue", exact=True)
    expect(more).to_be_visible()
    chat.settings(JSON_schema='{"type": "object"}')
    expect(more).to_have_count(0)


def test_a_receipt_that_comes_late_takes_nothing_from_what_was_continued(chat: ChatPage) -> None:
    page = chat.page
    held = hold(page, "**/mesh/v1/requests/*")
    chat.settings(Longest_answer=30)
    with page.expect_request("**/mesh/v1/requests/*"):
        chat.send("Tell me")
    chat.settings(Longest_answer=1000)
    chat.last.get_by_role("button", name="Continue", exact=True).click()
    expect(chat.last).to_have_attribute("aria-busy", "true")
    with page.expect_response("**/mesh/v1/requests/*") as receipt:
        held[0].continue_()
    receipt.value.finished()
    page.unroute("**/mesh/v1/requests/*")
    expect(chat.last).to_have_attribute("aria-busy", "true")
    expect(chat.last).to_have_attribute("aria-busy", "false")
    expect(chat.last.locator(".numbers")).to_contain_text("Tokens1,000")
    assert len(chat.saved_answers()[-1]["content"]) > 300


def test_the_rest_of_an_answer_is_one_text_with_its_beginning(scripted: ChatPage) -> None:
    """Also of a block of code that was cut."""
    bring(scripted, told("cut", question("q", "Go"), answer("a", "```python\nx = 1", "q", status="stopped")))
    scripted.page.get_by_role("link", name="Title cut").click()
    scripted.page.evaluate("window.answerWith = { pieces: ['\\ny = 2\\n```\\n\\nDone.'], every_ms: 0 }")
    scripted.last.get_by_role("button", name="Continue", exact=True).click()
    expect(scripted.last.locator("figure.code code")).to_have_text("x = 1\ny = 2")
    expect(scripted.last.locator(".text .block")).to_have_count(2)
    expect(scripted.last.get_by_role("button", name="Continue", exact=True)).to_have_count(0)


def test_who_scrolls_up_a_little_stays_there(scripted: ChatPage) -> None:
    thread, blocks = scripted.page.locator(".thread"), scripted.last.locator(".text .block")
    answer_endlessly(scripted, "word word word word\n\n", every_ms=8)
    expect(blocks.nth(60)).to_be_attached()
    thread.hover()
    scripted.page.mouse.wheel(0, -30)
    count = blocks.count()
    expect(blocks.nth(count + 60)).to_be_attached()
    assert thread.evaluate(FROM_END) > 400
    expect(scripted.last).to_have_attribute("aria-busy", "true")
    scripted.page.get_by_label("To the newest message").click()
    end_answer(scripted)
    expect(scripted.last).to_have_attribute("aria-busy", "false")
    expect(scripted.page.get_by_label("To the newest message")).to_have_count(0)
    assert thread.evaluate(FROM_END) < 2


def test_chats_are_found_by_what_was_said(chat: ChatPage) -> None:
    page = chat.page
    bring(chat, *(told(f"c{i}", question("q", f"About {i}"), answer("a", f"Number-{i}-it is", "q")) for i in range(8)))
    seek = page.get_by_label("Find in chats")
    seek.fill("NUMBER-5-")
    expect(page.locator(".heads .head-title")).to_have_text(["Title c5"])
    seek.fill("title C7")
    expect(page.locator(".heads li")).to_have_count(1)
    seek.fill("nowhere at all")
    expect(page.locator(".sidebar")).to_contain_text("No chat has this.")


def test_the_search_stays_while_it_hides_chats(chat: ChatPage) -> None:
    page = chat.page
    bring(chat, *(told(f"c{i}", question("q", "Hello")) for i in range(6)))
    seek = page.get_by_label("Find in chats")
    seek.fill("title c5")
    page.get_by_label("Delete Title c5").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator(".sidebar")).to_contain_text("No chat has this.")
    seek.fill("")
    expect(page.locator(".heads li")).to_have_count(5)
    expect(seek).to_have_count(0)


def test_a_file_of_chats_that_is_brought_twice_adds_them_once(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=5)
    chat.send("Once and for all")
    chat.wait_done()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    file = json.loads(download.value.path().read_text())
    bring(chat, *file["conversations"])
    expect(page.get_by_role("status")).to_contain_text("No chats were added. 1 was here already.")
    expect(page.locator(".heads li")).to_have_count(1)
    chat.send("And more")
    chat.wait_done()
    bring(chat, *file["conversations"])
    expect(page.get_by_role("status")).to_contain_text("1 chat was added.")
    expect(page.locator(".heads li")).to_have_count(2)


def test_a_phone_has_a_button_for_a_new_chat(chat: ChatPage) -> None:
    chat.page.set_viewport_size({"width": 360, "height": 720})
    chat.settings(Longest_answer=5)
    chat.send("One")
    chat.wait_done()
    chat.page.locator(".talk-head").get_by_label("New chat").click()
    expect(chat.answers).to_have_count(0)


def test_what_the_page_says_covers_no_control_of_the_message(chat: ChatPage) -> None:
    bring(chat, {"id": "x"})
    notice = chat.page.locator(".notice.error").bounding_box()
    send = chat.page.locator("button.send").bounding_box()
    assert notice
    assert send
    assert notice["y"] + notice["height"] < send["y"]
