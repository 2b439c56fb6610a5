"""Files of chats that are wrong or hostile: they are refused, or shown with what is right in them."""

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.page.pages import ChatPage

HIDDEN = """async (chat) => {
  const { keep } = await import(new URL("lib/db.js", document.baseURI + "ui/"));
  await keep(chat);
}"""
"""Keeps a chat as another tab does, whose list this one has not read."""
AWAY = "https://example.invalid/seen.png"
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
NONSENSE = [1, "x", {}, [], [1], ["x"], [{}], [None], {"a": 1}, True]
FIELDS = [
    "images",
    "moves",
    "stats",
    "toolCalls",
    "toolResults",
    "receipt",
    "reasoning",
    "error",
    "model",
    "status",
    "at",
]


def question(name: str, text: str, parent: str = "", **more: object) -> dict[str, Any]:
    return {"id": name, "parent": parent, "role": "user", "content": text, "at": 1, **more}


def answer(name: str, text: str, parent: str, **more: object) -> dict[str, Any]:
    return {"id": name, "parent": parent, "role": "assistant", "content": text, "at": 2, "status": "done", **more}


def told(name: str, *nodes: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"id": name, "title": f"Title {name}", "nodes": {each["id"]: each for each in nodes}, "children": {}, **more}


def bring(chat: ChatPage, *chats: dict[str, Any]) -> None:
    file = {"name": "c.json", "mimeType": "application/json", "buffer": json.dumps({"conversations": chats}).encode()}
    chat.page.get_by_label("File of chats").set_input_files(file)  # type: ignore[arg-type] # a file in memory


def test_a_message_that_is_its_own_beginning_is_refused(chat: ChatPage) -> None:
    bring(chat, told("x", question("", "Round and round")))
    expect(chat.page.get_by_role("status")).to_contain_text("answers none that is there")
    assert chat.saved() == []


def test_ids_that_objects_have_names_for_are_ids(chat: ChatPage) -> None:
    names = ["constructor", "toString", "__proto__", "hasOwnProperty"]
    nodes: dict[str, Any] = {}
    for parent, name in zip(["", *names], names, strict=False):
        nodes[name] = question(name, f"text of {name}", parent)
    bring(chat, {"id": "y", "title": "Names", "nodes": nodes, "children": {}, "chosen": {"": "constructor"}})
    chat.page.get_by_role("link", name="Names").click()
    expect(chat.page.locator("article.question .bubble")).to_have_text([f"text of {name}" for name in names])
    chat.settings(Longest_answer=5)
    chat.send("And on")
    chat.wait_done()


def test_fields_that_say_nonsense_do_no_harm(chat: ChatPage) -> None:
    """The page's console says nothing, which its fixture checks, and each message is drawn."""
    first = question("q", "first", images=[AWAY, DOT, 7])
    answers = [
        answer(f"{field}-{i}", f"answer {field} {i}", "q", **{"stats": {"endpoint": "e"}, field: value})
        for field in FIELDS
        for i, value in enumerate(NONSENSE)
    ]
    chain = [first, answers[0]]
    for i, each in enumerate(answers[1:]):
        chain += [question(f"q{i}", f"question {i}", chain[-1]["id"]), {**each, "parent": f"q{i}"}]
    settings = {"model": "story", "system": {"a": 1}, "stop": 5, "schema": [1], "constructor": "x"}
    bring(chat, told("z", *chain, settings=settings, chosen=[1], created="never", removed=True))
    asked: list[str] = []
    chat.page.on("request", lambda request: asked.append(request.url))
    chat.page.get_by_role("link", name="Title z").click()
    expect(chat.answers).to_have_count(len(answers))
    expect(chat.page.get_by_alt_text("Picture 1")).to_have_attribute("src", DOT)
    expect(chat.page.locator(".sent-picture")).to_have_count(1)
    for place in (0, len(FIELDS) * 3):
        opened = chat.answers.nth(place).get_by_title("Show the receipt")
        opened.click()
    assert AWAY not in asked
    settings_kept = chat.saved()[0]["settings"]
    assert settings_kept == {"model": "story", "stop": "5"}


RECEIPTS = [
    {"reason": ""},
    {"reason": "constructor", "retries": [{"reason": "toString"}]},
    {
        "runners_up": 1,
        "failovers": "x",
        "sampling": [{}, 1],
        "ignored_fields": {},
        "finish_reasons": 3,
        "total_ms": "x",
    },
]


@pytest.mark.parametrize("receipt", RECEIPTS, ids=["empty", "names", "types"])
def test_receipts_that_say_nonsense_are_drawn(chat: ChatPage, receipt: dict[str, Any]) -> None:
    reply = answer("a", "An answer", "q", receipt=receipt, stats={"endpoint": "e", "reason": receipt.get("reason")})
    bring(chat, told("r", question("q", "Hello"), reply))
    chat.page.get_by_role("link", name="Title r").click()
    chat.last.get_by_title("Show the receipt").click()
    expect(chat.page.get_by_role("region", name="Receipt")).to_contain_text("Where the time went")


def test_no_chat_overwrites_another(chat: ChatPage) -> None:
    chat.page.evaluate(
        HIDDEN, told("same", question("q", "here already"), created=1, updated=1, chosen={}, settings={})
    )
    bring(chat, told("same", question("q", "first of the file")), told("same", question("q", "second of the file")))
    expect(chat.page.get_by_role("status")).to_contain_text("2 chats were added.")
    texts = sorted(node["content"] for each in chat.saved() for node in each["nodes"].values())
    assert texts == ["first of the file", "here already", "second of the file"]
    expect(chat.page.locator(".heads li")).to_have_count(3)


def test_what_is_no_chat_is_refused_in_words(chat: ChatPage) -> None:
    file = {"name": "c.json", "mimeType": "application/json", "buffer": b"null"}
    chat.page.get_by_label("File of chats").set_input_files(file)  # type: ignore[arg-type] # a file in memory
    expect(chat.page.get_by_role("status")).to_contain_text("holds no conversations of infermesh")
