"""Two tabs with one conversation: each sees the other's messages, and neither overwrites any."""

import json

import pytest
from playwright.sync_api import expect

from tests.e2e.mesh import Mesh
from tests.page.conftest import SCREENSHOTS
from tests.page.pages import ChatPage, wait_true

WITHOUT_CHANNEL = "delete window.BroadcastChannel"
MERGED = """async ([mine, theirs]) => {
  const { absorb } = await import(new URL("chat/tabs/merging.js", document.baseURI + "ui/"));
  return absorb(mine, theirs, { making: (id) => id === "made" });
}"""


@pytest.fixture
def second(chat: ChatPage) -> ChatPage:
    """A second tab of the same browser, which has no chat open yet."""
    return ChatPage(chat.page.context.new_page(), SCREENSHOTS)


def begin(chat: ChatPage, text: str) -> str:
    """Has a first question answered; returns the chat's address."""
    chat.settings(Longest_answer=10)
    chat.send(text)
    chat.wait_done()
    return chat.page.url


def open_again(tab: ChatPage, url: str) -> None:
    tab.page.goto(url)
    expect(tab.page.locator("#model")).to_have_value("story")


def questions(tab: ChatPage) -> list[str]:
    return tab.page.locator("article.question .bubble").all_inner_texts()


def kept_questions(tab: ChatPage) -> list[str]:
    nodes = [node for each in tab.saved() for node in each["nodes"].values()]
    return sorted(str(node["content"]) for node in nodes if node["role"] == "user")


def test_each_tab_sees_what_the_other_adds(chat: ChatPage, second: ChatPage) -> None:
    url = begin(chat, "First of all")
    open_again(second, url)
    expect(second.answers).to_have_count(1)
    second.send("From the second tab")
    second.wait_done()
    expect(chat.answers).to_have_count(2)
    chat.wait_done()
    chat.send("From the first tab")
    chat.wait_done()
    expect(second.answers).to_have_count(3)
    assert questions(chat) == questions(second) == ["First of all", "From the second tab", "From the first tab"]
    assert chat.last.locator(".text").inner_text() == second.last.locator(".text").inner_text()


def test_what_both_add_at_the_same_time_is_kept(chat: ChatPage, mesh: Mesh) -> None:
    """Without the channel, because what it tells comes too late then; some browsers have none."""
    chat.page.context.add_init_script(WITHOUT_CHANNEL)
    chat.page.reload()
    url = begin(chat, "The beginning")
    second = ChatPage(chat.page.context.new_page(), SCREENSHOTS)
    open_again(second, url)
    expect(second.answers).to_have_count(1)
    for tab, text in ((chat, "one way"), (second, "another way")):
        tab.page.get_by_label("Message", exact=True).fill(text)
    for tab in (chat, second):
        tab.page.keyboard.press("Enter")
    for tab in (chat, second):
        expect(tab.answers).to_have_count(2)
        tab.wait_done()
    chat.page.reload()
    expect(chat.answers).to_have_count(2)
    expect(chat.page.locator("article.question").last.locator(".branches")).to_contain_text("/ 2")
    assert kept_questions(chat) == ["The beginning", "another way", "one way"]
    assert all(answer["status"] == "done" for answer in chat.saved_answers())


def test_an_answer_that_another_tab_receives_is_followed_and_stopped(chat: ChatPage, second: ChatPage) -> None:
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    open_again(second, chat.page.url)
    expect(second.last).to_contain_text("Another tab receives this answer now.")
    expect(second.last.locator(".text .block").first).to_be_visible()
    second.page.get_by_label("Stop", exact=True).click()
    expect(chat.last).to_contain_text("You stopped this answer")
    expect(second.last).to_contain_text("You stopped this answer")
    expect(second.page.get_by_label("Send", exact=True)).to_be_visible()


def test_a_chat_that_another_tab_deletes_is_left_and_not_kept_again(chat: ChatPage, second: ChatPage) -> None:
    open_again(second, begin(chat, "Soon gone"))
    expect(second.answers).to_have_count(1)
    chat.page.get_by_label("Delete Soon gone").click()
    chat.page.get_by_role("button", name="Delete", exact=True).click()
    expect(second.page.get_by_role("status").filter(has_text="deleted in another tab")).to_be_visible()
    expect(second.answers).to_have_count(0)
    expect(second.page.locator(".heads li")).to_have_count(0)
    assert chat.saved() == []


def test_who_is_in_another_room_stays_there_when_the_chat_is_deleted(chat: ChatPage, second: ChatPage) -> None:
    open_again(second, begin(chat, "Soon gone"))
    second.page.get_by_role("link", name="Compare").click()
    expect(second.page.get_by_role("heading", name="Compare")).to_be_visible()
    chat.page.get_by_label("Delete Soon gone").click()
    chat.page.get_by_role("button", name="Delete", exact=True).click()
    expect(second.page.get_by_role("status").filter(has_text="deleted in another tab")).to_be_visible()
    assert second.page.url.endswith("#/compare")
    expect(second.page.get_by_role("heading", name="Compare")).to_be_visible()


WITHOUT_TIMERS = "window.setInterval = () => 0"
"""As browsers leave a tab that is long hidden: what it would keep every few seconds does not come."""
HEARS = """() => {
  window.heard = 0;
  new BroadcastChannel("infermesh.chats").onmessage = ({ data }) => (window.heard += data.making?.length || 0);
}"""


def test_a_silent_tab_is_asked_before_its_answer_is_given_up(chat: ChatPage, second: ChatPage) -> None:
    chat.page.add_init_script(WITHOUT_TIMERS)
    chat.page.reload()
    chat.settings(Longest_answer=2000)
    chat.send("Talk for long")
    chat.wait_streaming()
    second.page.clock.install()
    open_again(second, chat.page.url)
    expect(second.last).to_contain_text("Another tab receives this answer now.")
    second.page.evaluate(HEARS)
    for _ in range(2):
        second.page.evaluate("window.heard = 0")
        second.page.clock.fast_forward(8500)
        wait_true(second.page, "window.heard > 0")
        second.page.clock.fast_forward(2500)
        expect(second.last).to_contain_text("Another tab receives this answer now.")
    chat.page.goto("about:blank")
    second.page.clock.fast_forward(8500)
    second.page.clock.fast_forward(2500)
    expect(second.last).to_contain_text("The page was closed while this answer came.")


def test_a_new_name_outlasts_the_old_state_of_another_tab(chat: ChatPage) -> None:
    """Without the channel, so that the other tab knows the old name when it keeps its own messages."""
    chat.page.context.add_init_script(WITHOUT_CHANNEL)
    chat.page.reload()
    url = begin(chat, "Old name")
    second = ChatPage(chat.page.context.new_page(), SCREENSHOTS)
    open_again(second, url)
    expect(second.answers).to_have_count(1)
    chat.page.get_by_label("Rename Old name").click()
    chat.page.get_by_label("Name", exact=True).fill("New name")
    chat.page.get_by_role("button", name="Rename", exact=True).click()
    expect(chat.page.locator("h1")).to_have_text("New name")
    chat.settings(System_prompt="Be brief", Longest_answer=10)
    second.send("More")
    second.wait_done()
    (kept,) = second.saved()
    assert (kept["title"], kept["settings"]["system"]) == ("New name", "Be brief")
    expect(second.page.locator("h1")).to_have_text("New name")


def test_a_new_name_reaches_the_other_tab(chat: ChatPage, second: ChatPage) -> None:
    open_again(second, begin(chat, "Old name"))
    chat.page.get_by_label("Rename Old name").click()
    chat.page.get_by_label("Name", exact=True).fill("New name")
    chat.page.get_by_role("button", name="Rename", exact=True).click()
    expect(second.page.locator("h1")).to_have_text("New name")
    expect(second.page.locator(".heads")).to_contain_text("New name")


def test_the_newer_state_of_a_message_stays(chat: ChatPage) -> None:
    def node(name: str, content: str, changed: int) -> dict[str, object]:
        return {"id": name, "parent": "", "content": content, "at": 1, "changed": changed}

    def tree(*nodes: dict[str, object]) -> dict[str, object]:
        named = {str(each["id"]): each for each in nodes}
        return {"nodes": named, "children": {"": list(named)}, "chosen": {}, "updated": 1}

    mine = tree(node("old", "mine", 1), node("new", "mine", 3), node("made", "mine", 1))
    theirs = tree(*(node(name, "theirs", 2) for name in ("old", "new", "made", "more")))
    merged = chat.page.evaluate(MERGED, [mine, theirs])
    contents = {name: each["content"] for name, each in merged["nodes"].items()}
    assert contents == {"old": "theirs", "new": "mine", "made": "mine", "more": "theirs"}
    assert sorted(merged["children"][""]) == ["made", "more", "new", "old"]


CIRCLE = {
    "id": "x",
    "title": "Circle",
    "nodes": {"a": {"id": "a", "parent": "a", "role": "user", "content": "?"}},
    "children": {"": ["a"], "a": ["a"]},
}
ORPHAN = CIRCLE | {"nodes": {"a": {"id": "a", "parent": "b", "role": "user", "content": "?"}}}


@pytest.mark.parametrize("told", [CIRCLE, ORPHAN], ids=["circle", "orphan"])
def test_a_file_whose_messages_lead_nowhere_is_refused(chat: ChatPage, told: dict[str, object]) -> None:
    file = {"name": "chats.json", "mimeType": "application/json", "buffer": json.dumps(told).encode()}
    chat.page.get_by_label("File of chats").set_input_files(file)  # type: ignore[arg-type] # a file in memory
    expect(chat.page.get_by_role("status")).to_contain_text("answers none that is there")
    assert chat.saved() == []


def test_lists_of_a_file_that_say_nonsense_are_made_anew(chat: ChatPage) -> None:
    nodes = {
        "a": {"id": "a", "parent": "", "role": "user", "content": "Hello there", "at": 1},
        "b": {"id": "b", "parent": "a", "role": "assistant", "content": "General", "at": 2},
    }
    told = {"id": "y", "title": "Nonsense", "nodes": nodes, "children": {"": "ab", "a": ["a", "gone"]}}
    file = {"name": "chats.json", "mimeType": "application/json", "buffer": json.dumps(told).encode()}
    chat.page.get_by_label("File of chats").set_input_files(file)  # type: ignore[arg-type] # a file in memory
    chat.page.get_by_role("link", name="Nonsense").click()
    expect(chat.last).to_contain_text("General")
    assert questions(chat) == ["Hello there"]
