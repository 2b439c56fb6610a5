"""The chat as a person uses it: send, stop, edit, branch, choose a device, come back later."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage

READABLE = "The quick brown fox jumps over the lazy dog."


def readable(text: str) -> str:
    """A schema that makes the simulated model say this text."""
    return json.dumps({"type": "string", "enum": [text]})


def test_an_answer_streams_and_says_how_it_came_about(chat: ChatPage) -> None:
    chat.settings(Longest_answer=120)
    chat.send("Tell me something")
    chat.wait_streaming()
    expect(chat.last).to_have_attribute("aria-busy", "true")
    chat.wait_done()
    numbers = chat.last.locator(".numbers")
    expect(numbers).to_contain_text(re.compile(r"First token.*Speed.*tok/s.*Queued.*Overhead"))
    expect(numbers.locator(".device")).to_have_text(re.compile("cpu|xpu"))
    expect(numbers.locator("svg.spark")).to_be_visible()
    chat.last.locator(".who").click()
    receipt = chat.last.get_by_role("region", name="Receipt")
    expect(receipt).to_contain_text("Where the time went")
    expect(receipt).to_contain_text("max_tokens")
    answer = chat.saved_answers()[-1]
    assert answer["stats"]["completionTokens"] == 120
    assert answer["receipt"]["request_id"] == answer["stats"]["requestId"]


def test_a_stopped_answer_keeps_what_came(chat: ChatPage, mesh: Mesh) -> None:
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    chat.page.keyboard.press("Escape")
    expect(chat.last).to_contain_text("You stopped this answer")
    expect(chat.page.get_by_label("Send", exact=True)).to_be_visible()
    assert chat.saved_answers()[-1]["content"]


def test_edits_and_new_answers_are_branches(chat: ChatPage) -> None:
    chat.settings(JSON_schema=readable("first"))
    chat.send("One")
    chat.wait_done()
    chat.last.get_by_label("Answer again").click()
    expect(chat.last.locator(".branches")).to_have_text("2 / 2")
    chat.wait_done()
    chat.page.locator("article.question").hover()
    chat.page.get_by_label("Edit and send again").click()
    chat.page.get_by_label("Edit the message").fill("Two")
    chat.page.keyboard.press("Enter")
    expect(chat.page.locator("article.question .bubble")).to_have_text("Two")
    chat.wait_done()
    chat.page.locator("article.question").get_by_label("Earlier branch").click()
    expect(chat.page.locator("article.question .bubble")).to_have_text("One")
    expect(chat.last.locator(".branches")).to_have_text("2 / 2")


def test_the_device_that_is_chosen_answers(chat: ChatPage, mesh: Mesh) -> None:
    chat.settings(Longest_answer=8)
    for worker, kind in zip(mesh.workers, ("cpu", "xpu"), strict=True):
        chat.page.get_by_label("Device").select_option(worker.address)
        chat.send("Who is there?")
        expect(chat.last.locator(".device")).to_have_text(kind)
        expect(chat.last.locator(".why")).to_have_text("you named it")
    expect(chat.page.get_by_label("Device").locator("option")).to_have_count(5)


def test_chats_are_there_later_and_without_the_mesh(chat: ChatPage) -> None:
    chat.settings(JSON_schema=readable(READABLE))
    chat.send("Remember this")
    chat.wait_done()
    chat.page.reload()
    expect(chat.last).to_contain_text(READABLE)
    chat.page.get_by_role("button", name="New chat").click()
    expect(chat.answers).to_have_count(0)
    chat.page.context.set_offline(True)
    chat.page.get_by_role("link", name="Remember this").click()
    expect(chat.last).to_contain_text(READABLE)
    chat.send("Are you there?")
    expect(chat.page.get_by_role("alert")).to_contain_text("The mesh does not answer")
    chat.page.context.set_offline(False)


def test_chats_are_exported_and_imported(chat: ChatPage, tmp_path: Path) -> None:
    chat.settings(JSON_schema=readable(READABLE))
    chat.send("Take this along")
    chat.wait_done()
    with chat.page.expect_download() as download:
        chat.page.get_by_role("button", name="Export").click()
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    chat.page.get_by_label("Delete Take this along").click()
    chat.page.get_by_role("button", name="Delete", exact=True).click()
    expect(chat.page.locator(".heads li")).to_have_count(0)
    chat.page.get_by_label("File of chats").set_input_files(file)
    chat.page.get_by_role("link", name="Take this along").click()
    expect(chat.last).to_contain_text(READABLE)


def test_a_refusal_is_told_in_words(page: Page, chat: ChatPage) -> None:
    chat.settings(Longest_answer=9, JSON_schema='{"type": "nonsense"}')
    chat.send("Hello")
    expect(page.get_by_role("alert")).to_contain_text(re.compile("schema|nonsense"))


def test_who_comes_back_from_another_room_finds_the_chat(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    page.get_by_role("link", name="Mesh", exact=True).click()
    expect(page.get_by_role("heading", name="Mesh", exact=True)).to_be_visible()
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(page.locator("article.question .bubble")).to_have_text("Talk for long")
    page.get_by_label("Stop", exact=True).click()
    expect(chat.last).to_contain_text("You stopped this answer")
    page.get_by_role("link", name="Chat", exact=True).click()  # in the chat, it begins a new one
    expect(chat.answers).to_have_count(0)


def test_who_stops_an_answer_sends_nothing(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    page.locator("#message").fill("What I write meanwhile")
    page.get_by_label("Stop", exact=True).click()
    expect(chat.last).to_contain_text("You stopped this answer")
    expect(page.get_by_label("Send", exact=True)).to_be_visible()
    expect(page.locator("article.question")).to_have_count(1)
    expect(page.locator("#message")).to_have_value("What I write meanwhile")


def test_a_room_that_cannot_come_is_told_and_opens_later(chat: ChatPage) -> None:
    page = chat.page
    page.context.set_offline(True)
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("status")).to_contain_text("Compare could not be opened: the mesh does not answer.")
    expect(page.get_by_role("link", name="Chat", exact=True)).to_have_attribute("aria-current", "page")
    expect(page.locator("#message")).to_be_visible()
    page.context.set_offline(False)
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()


@pytest.mark.parametrize("place", ["#/chat/%", "#/chat/new/%E0%A4", "#/constructor", "#/%00"])
def test_an_address_that_means_nothing_opens_a_chat(page: Page, mesh: Mesh, place: str) -> None:
    page.goto(f"/{place}")
    expect(page.locator("#message")).to_be_visible()
