"""Where messages are written: drafts that stay, files that are dropped or pasted, settings that are right or wrong."""

import base64
import re
from collections.abc import Mapping
from typing import Any

import pytest
from playwright.sync_api import Page, Request, expect

from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage
from tests.page.scripted import answer_with
from tests.page.test_imported_chats import bring, question, told
from tests.page.test_parts import PIXEL, asked, with_pictures
from tests.page.test_sound import heard

__all__ = ["heard"]
GIVEN = """([kind, files, text]) => {
  const transfer = new DataTransfer();
  for (const { name, type, data } of files) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  if (text) transfer.setData("text/plain", text);
  const told = { bubbles: true, cancelable: true };
  const [target, event] = kind === "paste"
    ? [document.getElementById("message"), new ClipboardEvent("paste", { ...told, clipboardData: transfer })]
    : [document.querySelector(".talk"), new DragEvent(kind, { ...told, dataTransfer: transfer })];
  target.dispatchEvent(event);
  return event.defaultPrevented;
}"""
"""Drags, drops or pastes files, and tells whether the page took them; if not, the browser opens them in its place."""


def give(page: Page, kind: str, *files: tuple[str, str, bytes], text: str = "") -> bool:
    sent = [{"name": name, "type": type_, "data": base64.b64encode(data).decode()} for name, type_, data in files]
    taken: bool = page.evaluate(GIVEN, [kind, sent, text])
    return taken


def message(page: Page) -> Any:
    return page.get_by_label("Message", exact=True)


PICTURE = ("dot.png", "image/png", PIXEL)


def test_a_draft_stays_in_other_rooms_and_chats(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=5)
    chat.send("First chat")
    chat.wait_done()
    message(page).fill("To be sent later")
    page.get_by_role("button", name="New chat").click()
    expect(message(page)).to_have_value("")
    message(page).fill("A new thought")
    page.get_by_role("link", name="Mesh", exact=True).click()
    expect(page.get_by_role("heading", name="Mesh", exact=True)).to_be_visible()
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(message(page)).to_have_value("A new thought")
    page.get_by_role("link", name="First chat").click()
    expect(message(page)).to_have_value("To be sent later")
    page.keyboard.press("Enter")
    chat.wait_done()
    page.get_by_role("button", name="New chat").click()
    expect(message(page)).to_have_value("A new thought")


def test_what_was_sent_does_not_come_back_in_a_new_chat(chat: ChatPage) -> None:
    page = chat.page
    chat.settings(Longest_answer=5)
    message(page).fill("Half a thought")
    page.get_by_role("button", name="Tell Tell a short story").click()
    chat.wait_done()
    expect(message(page)).to_have_value("Half a thought")
    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".welcome")).to_be_visible()
    expect(message(page)).to_have_value("")
    page.get_by_role("link", name="Tell a short story").click()
    expect(message(page)).to_have_value("Half a thought")
    page.keyboard.press("Enter")
    expect(chat.answers).to_have_count(2)
    chat.wait_done()
    page.get_by_role("button", name="New chat").first.click()
    expect(message(page)).to_have_value("")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: Page, chat: ChatPage, way: str) -> None:
    assert give(page, way, PICTURE)
    expect(page.get_by_role("status")).to_contain_text("The chosen model does not take pictures.")
    page.route("**/mesh/v1/events", lambda route: route.abort())
    page.route("**/mesh/v1/endpoints", with_pictures)
    page.reload()
    expect(page.get_by_label("Add a picture")).to_be_visible()
    assert give(page, "dragover", PICTURE)
    expect(page.locator(".composer-box.dropping")).to_be_visible()
    assert give(page, way, PICTURE, PICTURE)
    expect(page.get_by_alt_text("Picture 2")).to_be_visible()


def test_a_sound_that_is_dropped_is_written_down(page: Page, heard: list[Request]) -> None:
    expect(page.get_by_role("button", name="Ask by sound")).to_be_visible()
    assert give(page, "drop", ("question.flac", "audio/flac", b"fLaC"))
    expect(message(page)).to_have_value("what was said")
    assert len(heard) == 1


def test_a_text_that_is_dropped_is_added_to_the_message(chat: ChatPage) -> None:
    page = chat.page
    message(page).fill("What does this do?")
    assert give(page, "drop", ("run.sh", "application/x-sh", b"echo '```'\n"))
    expect(message(page)).to_have_value("What does this do?\n\nrun.sh:\n````\necho '```'\n````\n")
    assert give(page, "drop", ("a.out", "", b"\x7fELF\0\0"))
    expect(page.get_by_role("status")).to_contain_text("a.out is neither a picture nor a sound nor a text.")


@pytest.mark.parametrize(
    ("name", "kind"), [("a.ts", "video/mp2t"), ("a.m3u", "audio/x-mpegurl"), ("a.svg", "image/svg+xml"), ("a.rs", "")]
)
def test_a_text_is_known_by_what_is_in_it(chat: ChatPage, name: str, kind: str) -> None:
    assert give(chat.page, "drop", (name, kind, b"let x = 1\n"))
    expect(message(chat.page)).to_have_value(f"{name}:\n```\nlet x = 1\n```\n")


def test_a_video_is_no_text(chat: ChatPage) -> None:
    assert give(chat.page, "drop", ("a.ts", "video/mp2t", b"G@\0\x10"))
    expect(chat.page.get_by_role("status")).to_contain_text("No model that turns speech into text is loaded.")


def test_of_two_sounds_one_is_taken_and_that_is_told(page: Page, heard: list[Request]) -> None:
    expect(page.get_by_role("button", name="Ask by sound")).to_be_visible()
    assert give(page, "drop", ("one.flac", "audio/flac", b"fLaC"), ("two.flac", "audio/flac", b"fLaC"))
    expect(message(page)).to_have_value("what was said")
    expect(page.locator(".notices")).to_contain_text("One sound is taken at a time: one.flac.")
    assert len(heard) == 1


def test_a_text_of_many_backticks_is_taken(chat: ChatPage) -> None:
    assert give(chat.page, "drop", ("a.md", "text/markdown", b"`a" * 200_000))
    expect(message(chat.page)).to_have_value(re.compile(r"^a\.md:\n```\n`a`a"))


def test_a_file_dropped_on_a_dialog_does_not_replace_the_page(chat: ChatPage) -> None:
    chat.page.get_by_role("button", name="Settings").click()
    assert give(chat.page, "drop", ("a.txt", "text/plain", b"hello"))
    chat.page.keyboard.press("Escape")
    expect(chat.page.get_by_role("dialog")).to_have_count(0)
    expect(message(chat.page)).to_have_value("")


def test_a_table_is_pasted_as_text(chat: ChatPage) -> None:
    """Spreadsheets put a picture of it beside the text; then the browser pastes the text."""
    assert not give(chat.page, "paste", PICTURE, text="a\tb")


def test_a_sound_that_no_model_hears_is_told_of(chat: ChatPage) -> None:
    assert give(chat.page, "drop", ("a.mp3", "audio/mpeg", b"ID3"))
    expect(chat.page.get_by_role("status")).to_contain_text("No model that turns speech into text is loaded.")


def test_two_hundred_kilobytes_are_pasted_and_refused_in_words(chat: ChatPage) -> None:
    chat.settings(Longest_answer=5)
    message(chat.page).focus()
    chat.page.evaluate("document.execCommand('insertText', false, 'lorem ipsum dolor '.repeat(11112))")
    chat.page.keyboard.press("Enter")
    expect(chat.page.get_by_role("alert")).to_contain_text("maximum context length is 8192 tokens")


@pytest.mark.parametrize("seed", ["13022874537461915979", "7"])
def test_a_seed_that_a_receipt_shows_can_be_used(chat: ChatPage, mesh: Mesh, seed: str) -> None:
    chat.settings(Seed=seed, Temperature=0.72, Longest_answer=8)
    with chat.page.expect_request("**/v1/chat/completions") as sent:
        chat.send("Say it")
    chat.wait_done()
    assert re.search(rf'"seed":{seed}\b', sent.value.post_data or "")
    chat.last.locator(".who").click()
    expect(chat.last.get_by_role("region", name="Receipt")).to_contain_text(f"Seed {seed}")


def test_a_stop_string_may_hold_a_new_line(scripted: ChatPage) -> None:
    scripted.settings(Stop_strings="END\n\\n\\nUser:\n\\\\n")
    answer_with(scripted, ["Yes."])
    expect(scripted.last.locator(".text")).to_have_text("Yes.")
    assert asked(scripted)["stop"] == ["END", "\n\nUser:", "\\n"]


WRONG: Mapping[str, tuple[str, str]] = {
    "no JSON": ("JSON schema", '{"type": '),
    "no object": ("JSON schema", '["a"]'),
    "no list": ("Tools", "{}"),
}


@pytest.mark.parametrize(("label", "text"), WRONG.values(), ids=WRONG)
def test_settings_that_are_wrong_are_not_saved(chat: ChatPage, label: str, text: str) -> None:
    chat.page.get_by_role("button", name="Settings").click()
    chat.page.get_by_label(label).fill(text)
    expect(chat.page.locator(".problem")).to_contain_text(re.compile("is not JSON|must be"))
    expect(chat.page.get_by_role("button", name="Save")).to_be_disabled()


@pytest.mark.parametrize(
    ("label", "value"), [("Temperature", "2.5"), ("Top p", "-1"), ("Longest answer", "0"), ("Seed", "x")]
)
def test_numbers_out_of_range_are_not_saved(chat: ChatPage, label: str, value: str) -> None:
    chat.page.get_by_role("button", name="Settings").click()
    field = chat.page.get_by_role("dialog").get_by_label(label)
    field.fill(value)
    chat.page.get_by_role("button", name="Save").click()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    assert not field.evaluate("(each) => each.checkValidity()")


def test_a_new_chat_does_not_begin_with_an_endpoint_that_is_gone(chat: ChatPage) -> None:
    """An old one keeps it, and says so."""
    page, gone = chat.page, {"model": "story", "device": "127.0.0.1:9"}
    page.evaluate("(told) => localStorage.setItem('infermesh.chat', JSON.stringify(told))", gone)
    bring(chat, told("old", question("q", "Go"), settings=gone))
    expect(page.get_by_role("link", name="Title old")).to_be_visible()
    page.reload()
    expect(page.locator("#device")).to_have_value("")
    expect(page.locator("#model")).to_have_value("story")
    page.get_by_role("link", name="Title old").click()
    expect(page.locator("#device option:checked")).to_have_text("127.0.0.1:9 (gone)")
    chat.send("Who is there?")
    expect(chat.last.get_by_role("alert")).to_contain_text("No endpoint with the model has the device '127.0.0.1:9'")
