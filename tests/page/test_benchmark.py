"""The benchmark on the page: lanes that are refused, answers that break off, long names, and the copied table."""

import json
import re

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.comparing import COMPLETIONS, VIEWS, breaking_off, figures, for_device, open_compare, refuse, run, shown
from tests.page.pages import ChatPage, copying
from tests.page.test_interrupted import hold


@pytest.fixture
def room(chat: ChatPage) -> Page:
    return open_compare(chat.page)


def test_the_benchmark_goes_on_where_a_lane_is_refused(room: Page, mesh: Mesh) -> None:
    room.route("**/v1/completions", for_device(mesh.workers[0].address, _refuse_many))
    run(room, "Benchmark").click()
    expect(shown(room, "Run the benchmark")).to_be_visible()
    rows = room.get_by_label("Results", exact=True).locator("tbody tr")
    assert [row.locator("td").all_inner_texts()[:2] for row in rows.all()] == [
        ["cpu", "1"],
        *(["xpu", streams] for streams in ("1", "4", "16")),
    ]
    expect(room.get_by_role("alert").locator("visible=true")).to_have_text(
        "cpu, 4 streams: The queue for 'story' is full (1024 waiting)."
    )


def _refuse_many(route: Route) -> None:
    many = len(json.loads(route.request.post_data or "")["prompt"]) > 1
    refuse(route) if many else route.continue_()


def test_figures_are_not_taken_while_others_are_taken(room: Page) -> None:
    room.get_by_role("button", name="Agreement", exact=True).click()
    room.get_by_label("Tokens at most").fill("4000")
    shown(room, VIEWS["Agreement"]).click()
    run(room, "Benchmark").click()
    expect(room.get_by_role("alert").locator("visible=true")).to_contain_text("Agreement is still running.")
    shown(room, "Agreement").click()
    shown(room, "Stop").click()
    run(room, "Benchmark").click()
    expect(room.get_by_label("Results", exact=True).locator("tbody tr")).to_have_count(6)
    expect(room.get_by_role("alert").locator("visible=true")).to_have_count(0)


LONG = "qwen3-30b-a3b-instruct-2507-q4_k_m-imatrix"


def test_long_names_of_models_hide_no_figures(room: Page) -> None:
    def rename(route: Route) -> None:
        route.fulfill(body=route.fetch().text().replace('"spare"', f'"{LONG}"'), content_type="application/json")

    def name_back(route: Route) -> None:
        route.continue_(post_data=(route.request.post_data or "").replace(LONG, "spare"))

    room.route("**/mesh/v1/events", lambda route: route.abort())
    room.route("**/mesh/v1/endpoints", rename)
    room.route(COMPLETIONS, name_back)
    room.set_viewport_size({"width": 360, "height": 720})
    room.reload()
    expect(room.locator("select[id^=lane-model]")).to_have_count(2)
    room.locator("select[id^=lane-model]").nth(1).select_option(LONG)
    button = run(room, "Benchmark")
    room.get_by_label("Tokens of each answer").fill("8")
    button.click()
    expect(room.get_by_label("Results", exact=True).locator("tbody tr")).to_have_count(6)
    cut_off = "(each) => each.scrollWidth > each.clientWidth"
    for label in room.get_by_label("Results", exact=True).locator(".bar-label").all():
        assert not label.evaluate(cut_off)
    assert not room.locator("main").evaluate(cut_off)
    cell = room.get_by_label("Results", exact=True).locator("tbody tr").nth(5).locator("td").first.bounding_box()
    assert cell is not None
    assert cell["width"] < 180, "the figures beside it are in sight"


def test_an_answer_that_breaks_off_is_no_figure(room: Page) -> None:
    half = b'data: {"choices": [{"index": 0, "text": "a"}]}\n\n'
    room.route("**/v1/completions", lambda route: route.fulfill(body=half, content_type="text/event-stream"))
    run(room, "Benchmark").click()
    expect(room.get_by_role("alert").locator("visible=true")).to_contain_text("The connection broke")
    expect(room.get_by_label("Results", exact=True)).to_have_count(0)


@pytest.mark.parametrize(("view", "rows"), [("Agreement", 1), ("Benchmark", 3)])
def test_a_connection_that_breaks_ends_its_own_lane_only(room: Page, mesh: Mesh, view: str, rows: int) -> None:
    with breaking_off() as break_off:
        room.route(COMPLETIONS, for_device(mesh.workers[0].address, break_off))
        run(room, view).click()
        expect(shown(room, VIEWS[view])).to_be_visible()
    problem = room.get_by_role("alert").locator("visible=true")
    expect(problem).to_have_text(re.compile(r"^cpu, (loading|warming up): The connection broke"))
    expect(room.get_by_role("region").locator("visible=true").locator("tbody tr")).to_have_count(rows)


def test_one_prompt_and_figures_wait_for_each_other(room: Page) -> None:
    held = hold(room, COMPLETIONS)
    run(room, "One prompt").click()
    run(room, "Benchmark").click()
    problem = room.get_by_role("alert").locator("visible=true")
    expect(problem).to_have_text("One prompt is still running. Both at once would slow each other down.")
    shown(room, "One prompt").click()
    shown(room, "Stop").click()
    run(room, "Benchmark").click()
    expect(shown(room, "Stop")).to_be_visible()
    run(room, "One prompt").click()
    expect(problem).to_have_text("The benchmark is still running. Both at once would slow each other down.")
    expect(room.locator(".lane-answer").first).to_contain_text("stopped")
    shown(room, "Benchmark").click()
    shown(room, "Stop").click()
    room.unroute(COMPLETIONS)
    assert held
    run(room, "One prompt").click()
    expect(figures(room)).to_have_count(2)
    expect(problem).to_have_count(0)
    run(room, "Agreement").click()
    expect(room.get_by_label("Agreement of the lanes").locator("tbody tr")).to_have_count(2)


PASTED = (
    """() => [...document.querySelectorAll("#paste tr")].map((row) => [...row.cells].map((cell) => cell.textContent))"""
)
PASTE_HERE = """() => {
  const here = Object.assign(document.createElement("div"), { id: "paste", contentEditable: "true" });
  document.body.append(here);
  here.focus();
}"""


@pytest.mark.parametrize("has_clipboard", [True, False])
def test_the_copied_table_pastes_as_cells_and_as_markdown(room: Page, has_clipboard: bool) -> None:
    if not has_clipboard:  # as over http from another machine
        room.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    room.context.grant_permissions(["clipboard-read", "clipboard-write"])
    run(room, "Benchmark").click()
    with copying(room):
        shown(room, "Copy the table").click()
    copies = room.get_by_role("button", name=re.compile("^(Copy the table|Copied)$")).locator("visible=true")
    expect(copies).to_be_focused()
    shown(room, "One prompt").click()
    prompt = room.get_by_label("Prompt", exact=True)
    prompt.fill("")
    prompt.press("Control+V")
    head, line, first, *_ = prompt.input_value().splitlines()
    assert (
        head
        == "| Lane | Streams | All together (tok/s) | Each stream (tok/s) | First token (median) (ms) | Total (ms) |"
    )
    assert line == "| --- " * 6 + "|"
    assert re.fullmatch(r"\| cpu \| 1 \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", first)
    room.evaluate(PASTE_HERE)
    room.keyboard.press("Control+V")
    cells = room.evaluate(PASTED)
    assert len(cells) == 7
    assert cells[0] == [part.strip() for part in head.strip("|").split("|")]
    assert [float(cell) for row in cells[1:] for cell in row[1:]], "numbers, without their units"
