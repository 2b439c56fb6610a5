"""One prompt in several lanes: lanes that fail, stop, come and go; keys, clicks, and what is marked."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.comparing import COMPLETIONS, VIEWS, figures, for_device, open_compare, refuse, run, shown, tokens
from tests.page.pages import ChatPage, check_accessible, copying, wait_true
from tests.page.test_interrupted import hold


@pytest.fixture
def room(chat: ChatPage) -> Page:
    return open_compare(chat.page)


@pytest.mark.parametrize(
    ("view", "result"),
    [("One prompt", "Figures"), ("Agreement", "Agreement of the lanes"), ("Benchmark", "Results of the benchmark")],
)
def test_a_double_click_runs_and_does_not_stop(room: Page, view: str, result: str) -> None:
    asked: list[str] = []
    room.on("request", lambda request: asked.append(request.post_data or "") if "completions" in request.url else None)
    button = run(room, view)
    box = button.bounding_box()
    assert box is not None
    button.dblclick(position={"x": box["width"] - 12, "y": box["height"] / 2})  # where Stop will be
    expect(shown(room, VIEWS[view])).to_be_visible()
    rows = room.get_by_label(result, exact=True).locator("tbody tr")
    expect(rows).to_have_count(6 if view == "Benchmark" else 2)
    assert len(asked) == {"One prompt": 2, "Agreement": 8, "Benchmark": 8}[view]
    expect(room.get_by_text(re.compile("stopped"))).to_have_count(0)


OPEN_DIALOG = """() => {
  const dialog = document.body.appendChild(document.createElement("dialog"));
  dialog.append("A question");
  dialog.showModal();
}"""


@pytest.mark.parametrize("view", list(VIEWS))
def test_the_keyboard_runs_and_stops(room: Page, view: str) -> None:
    room.route(COMPLETIONS, lambda _: None)  # is never answered
    run(room, view).focus()
    room.keyboard.press("Enter")
    expect(shown(room, "Stop")).to_be_focused()
    room.keyboard.press("Escape")
    expect(shown(room, VIEWS[view])).to_be_focused()
    room.get_by_role("spinbutton").locator("visible=true").first.focus()
    room.keyboard.press("Control+Enter")
    expect(shown(room, "Stop")).to_be_visible()
    shown(room, "Stop").dblclick()
    expect(shown(room, VIEWS[view])).to_be_visible()
    expect(shown(room, "Stop")).to_have_count(0)


@pytest.mark.parametrize("view", list(VIEWS))
def test_escape_stops_wherever_the_focus_is(room: Page, view: str) -> None:
    hold(room, COMPLETIONS)
    run(room, view).click()
    expect(shown(room, "Stop")).to_be_visible()
    room.get_by_role("heading", name="Compare", exact=True).click()
    other = "Benchmark" if view == "One prompt" else "One prompt"
    shown(room, other).click()
    room.keyboard.press("Escape")  # stops nothing that is not shown
    shown(room, view).click()
    room.evaluate(OPEN_DIALOG)
    room.keyboard.press("Escape")
    expect(room.get_by_role("dialog")).to_have_count(0)
    expect(shown(room, "Stop")).to_be_visible()
    room.get_by_role("heading", name="Compare", exact=True).click()
    room.keyboard.press("Escape")
    expect(shown(room, VIEWS[view])).to_be_visible()


@pytest.mark.parametrize("view", ["One prompt", "Agreement"])
def test_what_has_not_begun_yet_can_be_stopped(room: Page, view: str) -> None:
    asked: list[str] = []
    room.on("request", lambda request: asked.append(request.url) if "completions" in request.url else None)
    room.route("**/v1/models", lambda _: None)  # is never answered
    with room.expect_request("**/v1/models"):
        run(room, view).click()
    shown(room, "Stop").click()
    expect(shown(room, VIEWS[view])).to_be_visible()
    room.unroute("**/v1/models")
    assert not asked
    run(room, view).click()
    rows = room.get_by_role("region").locator("visible=true").locator("tbody tr")
    expect(rows).to_have_count(2)


def test_a_lane_that_is_refused_is_not_what_others_are_compared_with(room: Page, mesh: Mesh) -> None:
    room.route("**/v1/chat/completions", for_device(mesh.workers[0].address, refuse))
    run(room, "One prompt").click()
    expect(figures(room)).to_have_count(2)
    expect(figures(room).nth(0)).to_contain_text("cpu (failed)")
    expect(room.locator(".lane-answer").nth(0)).to_contain_text("The queue for 'story' is full")
    expect(room.locator(".lane-answer").nth(0)).to_contain_text("failed after 0 tokens")
    expect(room.locator(".bars .bar-label").first).to_have_text("xpu")
    expect(room.get_by_text("Mark what differs")).to_have_count(0)  # one answer alone
    shown(room, "Add a lane").click()
    shown(room, "Run in 3 lanes").click()
    expect(room.get_by_text("Mark what differs from xpu")).to_be_visible()
    expect(room.locator(".lane-answer").nth(2)).to_contain_text("The same, word for word.")


SECOND_IS_AHEAD = """() => {
  const hints = [...document.querySelectorAll(".lane-answer .hint")];
  const [first, second] = hints.map((each) => parseInt(each.textContent.replaceAll(",", "")));
  return first > 0 && second > first + 20;
}"""
"""Whether both lanes have tokens, and the second one clearly more."""


def test_stopped_lanes_say_so_and_are_no_bars(room: Page) -> None:
    room.get_by_label("Longest answer").fill("4000")
    run(room, "One prompt").click()
    wait_true(room, SECOND_IS_AHEAD)
    expect(room.get_by_role("status").get_by_text("0 of 2 lanes done")).to_be_visible()
    shown(room, "Stop").click()
    expect(figures(room).nth(1)).to_contain_text("xpu (stopped)")
    expect(room.locator(".lane-answer").nth(0)).to_contain_text(re.compile(r"stopped after \d+ tokens"))
    expect(room.locator(".lane-answer").nth(1)).to_contain_text("The same for")
    expect(room.get_by_label("Figures", exact=True).locator(".bars")).to_have_count(0)


def test_the_same_lane_twice_has_two_names_and_two_bars(room: Page, mesh: Mesh) -> None:
    room.locator("select[id^=lane-device]").nth(1).select_option(mesh.workers[0].address)
    run(room, "One prompt").click()
    expect(figures(room).locator("td:first-child")).to_have_text(["cpu", "cpu (2)"])
    expect(room.locator(".bars").first.locator(".bar-label")).to_have_text(["cpu", "cpu (2)"])
    expect(room.locator(".lane-answer").nth(1)).to_contain_text("The same, word for word.")


def test_lanes_come_and_go_while_they_run(room: Page) -> None:
    room.get_by_label("Longest answer").fill("100")
    colours = room.locator(".lane-choice rect")
    second = colours.nth(1).get_attribute("fill")
    run(room, "One prompt").click()
    expect(room.locator(".lane-answer")).to_have_count(2)
    room.get_by_label("Remove lane 1").click()
    assert colours.get_attribute("fill") == second, "the lane keeps the colour that its figures have"
    shown(room, "Add a lane").click()
    assert len({each.get_attribute("fill") for each in colours.all()}) == 2
    expect(figures(room)).to_have_count(2)
    assert tokens(room) == ["100", "100"]
    expect(figures(room).locator("td:first-child")).to_have_text(["cpu", "xpu"])


@pytest.mark.parametrize("view", list(VIEWS))
def test_a_look_at_another_room_costs_nothing(room: Page, view: str) -> None:
    room.get_by_label("Prompt", exact=True).fill("What is a room?")
    held: list[Route] = []
    looked = False
    room.route(COMPLETIONS, lambda route: route.continue_() if looked else held.append(route))
    run(room, view).click()
    expect(shown(room, "Stop")).to_be_visible()
    room.get_by_role("link", name="Mesh", exact=True).click()
    expect(room.get_by_role("heading", name="Mesh")).to_be_visible()
    looked = True
    for route in held:  # no answer was complete before the look
        route.continue_()
    room.get_by_role("link", name="Compare").click()
    expect(shown(room, VIEWS[view])).to_be_visible()
    rows = room.get_by_role("region").locator("visible=true").locator("tbody tr")
    expect(rows).to_have_count(6 if view == "Benchmark" else 2)
    expect(room.get_by_label("Prompt", exact=True)).to_have_value("What is a room?")


def saying(*deltas: dict[str, str]) -> Callable[[Route], None]:
    """Answers with these deltas, of one token each."""
    events = [
        {"choices": [{"delta": delta}], "usage": {"completion_tokens": n, "prompt_tokens": 1}}
        for n, delta in enumerate(deltas, 1)
    ]
    text = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    return lambda route: route.fulfill(body=text, content_type="text/event-stream")


def test_thoughts_are_shown_folded(room: Page) -> None:
    room.route("**/v1/chat/completions", saying({"reasoning_content": "Let me see."}, {"content": "Blue."}))
    run(room, "One prompt").click()
    lane = room.locator(".lane-answer").first
    expect(lane.locator("summary")).to_have_text("Thoughts")
    lane.locator("summary").click()
    expect(lane.locator(".thoughts")).to_have_text("Let me see.")


def test_a_lane_that_only_thought_is_not_what_others_are_compared_with(room: Page, mesh: Mesh) -> None:
    thinks = saying({"reasoning_content": "Let me see."})
    room.route("**/v1/chat/completions", for_device(mesh.workers[0].address, thinks))
    shown(room, "Add a lane").click()
    shown(room, "Run in 3 lanes").click()
    expect(figures(room).locator("td:first-child")).to_have_text(["cpu", "xpu", "auto"])
    expect(room.get_by_text("Mark what differs from xpu")).to_be_visible()
    expect(room.locator(".lane-answer").nth(2)).to_contain_text("The same, word for word.")


def test_code_of_an_answer_is_copied(room: Page) -> None:
    room.context.grant_permissions(["clipboard-read", "clipboard-write"])
    room.route("**/v1/chat/completions", saying({"content": "```python\nprint(1)\n```"}))
    run(room, "One prompt").click()
    room.get_by_label("Mark what differs").uncheck()
    with copying(room):
        room.locator(".lane-answer").first.get_by_role("button", name="Copy").click()
    assert room.evaluate("navigator.clipboard.readText()") == "print(1)"
    expect(room.get_by_role("button", name="Copied")).to_have_count(0)


def test_a_base_model_continues_the_prompt(room: Page) -> None:
    def without_chat(route: Route) -> None:
        listed = route.fetch().json()
        for model in listed["data"]:
            model["capabilities"]["chat_completions"] = False
        route.fulfill(json=listed)

    room.route("**/v1/models", without_chat)
    with room.expect_request("**/v1/completions") as asked:
        run(room, "One prompt").click()
    assert json.loads(asked.value.post_data or "")["prompt"] == room.get_by_label("Prompt", exact=True).input_value()
    expect(figures(room)).to_have_count(2)
    assert tokens(room) == ["12", "12"]
    expect(room.locator(".lane-answer").nth(1)).to_contain_text("The same, word for word.")


COMPARED = """async (pairs) => {
  const { compareWords, firstDifference } = await import(new URL("ui/compare/difference.js", document.baseURI));
  return pairs.map(([a, b]) => [firstDifference(a, b), compareWords(a, b).map(({ text, kind }) => [kind, text])]);
}"""


def test_what_differs_is_marked_word_by_word(room: Page) -> None:
    cases: list[tuple[str, str, int, Any]] = [
        ("the sky is blue", "the sky is blue", -1, [["same", "the sky is blue"]]),
        ("the sky is blue", "the sea is blue", 1, [["same", "the "], ["differs", "sea"], ["same", " is blue"]]),
        ("it is very blue", "it is blue", 2, [["same", "it is "], ["missing", "very"], ["same", "blue"]]),
        ("it is", "it is blue", 2, [["same", "it is"], ["differs", " blue"]]),
        ("it is blue", "it is", 2, [["same", "it is"], ["missing", "blue"]]),
        ("a  b", "a b", -1, [["same", "a b"]]),
        ("天空是蓝色的", "天空是红色的", 3, [["same", "天空是"], ["differs", "红"], ["same", "色的"]]),
        ("", "new", 0, [["differs", "new"]]),
    ]
    found = room.evaluate(COMPARED, [[a, b] for a, b, *_ in cases])
    assert found == [[at, parts] for _, _, at, parts in cases]


def test_very_long_texts_are_compared_at_once(room: Page) -> None:
    taken_ms = room.evaluate(
        """async () => {
          const { compareWords } = await import(new URL("ui/compare/difference.js", document.baseURI));
          const text = (word) => Array.from({ length: 50_000 }, (_, i) => `${word}${i}`).join(" ");
          const begun = performance.now();
          compareWords(text("a"), text("b"));
          compareWords("x ".repeat(1200) + "a", "y ".repeat(1200) + "a");
          return performance.now() - begun;
        }"""
    )
    assert taken_ms < 2000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_four_lanes_on_a_phone(chat: ChatPage, room: Page, scheme: Any) -> None:
    room.emulate_media(color_scheme=scheme)
    room.set_viewport_size({"width": 360, "height": 720})
    for _ in range(2):
        shown(room, "Add a lane").click()
    expect(shown(room, "Add a lane")).to_be_disabled()
    room.locator("select[id^=lane-model]").nth(3).select_option("spare")
    shown(room, "Run in 4 lanes").click()
    expect(figures(room)).to_have_count(4)
    for view, runs in VIEWS.items():
        shown(room, view).click()
        if view != "One prompt":
            shown(room, runs).click()
            expect(shown(room, runs)).to_be_visible()
        check_accessible(room)
        assert room.locator("main").evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0
        chat.picture(f"compare-{view.split()[0].lower()}-360-{scheme}")
