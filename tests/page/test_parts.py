"""Parts of chats that the simulated workers do not have: reasoning, tool calls, pictures; and a path prefix."""

import base64
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage
from tests.page.scripted import SCRIPTED, answer_with

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def asked(chat: ChatPage) -> dict[str, Any]:
    """The body of the last request for an answer."""
    body: dict[str, Any] = chat.page.evaluate("window.asked")
    return body


def test_reasoning_is_folded(scripted: ChatPage) -> None:
    answer_with(scripted, [{"reasoning_content": "First I think."}, "Then I say."])
    fold = scripted.last.locator("details", has_text="Thoughts")
    expect(fold.locator(".fold-text")).to_be_hidden()
    fold.locator("summary").click()
    expect(fold.locator(".fold-text")).to_have_text("First I think.")
    expect(scripted.last.locator(".text")).to_have_text("Then I say.")


def test_tool_calls_are_shown_and_answered(scripted: ChatPage) -> None:
    call = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": ""}}
    pieces = [{"tool_calls": [call]}, {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Rome"}'}}]}]
    answer_with(scripted, pieces)
    expect(scripted.last.locator("details")).to_contain_text('"city": "Rome"')
    scripted.page.get_by_label("What weather gives back").fill("sunny")
    scripted.page.evaluate("window.answerWith = { pieces: ['It is sunny.'], every_ms: 0 }")
    scripted.page.get_by_role("button", name="Send the results").click()
    expect(scripted.last.locator(".text")).to_have_text("It is sunny.")
    messages = asked(scripted)["messages"]
    assert messages[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Rome"}'}
    assert messages[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


def test_settings_and_the_system_prompt_are_sent(scripted: ChatPage) -> None:
    scripted.settings(System_prompt="Be brief", Temperature=0.5, Top_p=0.9, Seed=3, Stop_strings="END\nSTOP")
    answer_with(scripted, ["Yes."])
    expect(scripted.last.locator(".text")).to_have_text("Yes.")
    body = asked(scripted)
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (body["temperature"], body["top_p"], body["seed"], body["stop"]) == (0.5, 0.9, 3, ["END", "STOP"])


def test_pictures_are_sent_where_the_model_takes_them(page: Page, scripted: ChatPage) -> None:
    expect(page.get_by_label("Add a picture")).to_have_count(0)
    page.route("**/mesh/v1/events", lambda route: route.abort())
    page.route("**/mesh/v1/endpoints", with_pictures)
    page.reload()
    page.evaluate(SCRIPTED)
    page.get_by_label("Pictures", exact=True).set_input_files(
        {"name": "dot.png", "mimeType": "image/png", "buffer": PIXEL}
    )
    expect(page.get_by_alt_text("Picture 1")).to_be_visible()
    answer_with(scripted, ["A dot."])
    expect(scripted.last.locator(".text")).to_have_text("A dot.")
    picture, text = asked(scripted)["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert text == {"type": "text", "text": "Go"}


def with_pictures(route: Route) -> None:
    told = route.fetch().json()
    for endpoint in told["endpoints"]:
        for model in (*endpoint["models"], *endpoint["available"]):
            model["takes_images"] = True
    route.fulfill(json=told)


@pytest.mark.parametrize("prefix", ["/behind/a/proxy/"])
def test_the_page_works_behind_a_path_prefix(page: Page, mesh: Mesh, prefix: str) -> None:
    page.route(
        f"**{prefix}**", lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace(prefix, "/")))
    )
    page.route(f"**{prefix}mesh/v1/events", lambda route: route.abort())
    page.goto(prefix)
    expect(page.locator("#model")).to_have_value("story")
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare")).to_be_visible()


def test_a_key_is_asked_for_once_and_sent(page: Page, mesh: Mesh) -> None:
    page.route("**/mesh/v1/endpoints", _with_key)
    page.goto("/")
    dialog = page.get_by_role("dialog", name="API key")
    expect(dialog).to_contain_text("This mesh needs a key")
    dialog.get_by_label("Key").fill("secret")
    dialog.get_by_role("button", name="Use this key").click()
    expect(page.locator("#model")).to_have_value("story")
    page.reload()
    expect(page.locator("#model")).to_have_value("story")
    expect(dialog).to_have_count(0)


def _with_key(route: Route) -> None:
    if route.request.headers.get("authorization") == "Bearer secret":
        route.continue_()
    else:
        route.fulfill(status=401, json={"error": {"message": "This mesh needs a key.", "code": "invalid_api_key"}})
