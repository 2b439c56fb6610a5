"""The agreement of lanes on the page: the figures of `infermesh compare`, by the same definitions and words."""

import json
import re
from dataclasses import asdict
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from infermesh_client.bench.agreement import Reply, agreement, first_difference
from infermesh_runtime.compare_prompts import COMPARE_MAX_TOKENS, COMPARE_PROMPTS, LOADING_PROMPT
from tests.e2e.mesh import Mesh
from tests.page.pages import ChatPage, check_accessible, copying

PAIRS = [
    ("The river runs", [1, 2, 3], "The river rests", [1, 2, 4]),
    ("the same", [1, 2], "the same", [1, 2]),
    ("short", [1], "short and long", [1, 2, 3]),
    ("", [], "", []),
    ("", [], "something", [7]),
    ("one text", [1, 2], "one text", [1, 3]),
    ("😀 a smile of two units 😀😀", [5, 6, 7], "😀 a smile of two units 😀🙁", [5, 6, 8]),
]
HEAD = ["device", "answered by", "agreement", "same", "differs at", "tokens/s", "TTFT"]
_COUNTED = """async (pairs) => {
  const { agreement, firstDifference } = await import(new URL("compare/agreement.js", document.baseURI + "ui/"));
  const firsts = pairs.map(([one]) => one), seconds = pairs.map(([, other]) => other);
  return { agreement: agreement(firsts, seconds), differences: pairs.map((pair) => firstDifference(...pair)) };
}"""


def reply(text: str, token_ids: list[int]) -> Reply:
    return Reply(text=text, token_ids=token_ids, ttft_s=0, tokens_per_s=0, device="", endpoint="")


def told(one: Reply) -> dict[str, Any]:
    """A reply as the page has it."""
    return {"text": one.text, "tokenIds": list(one.token_ids)}


def test_the_page_counts_as_the_command_does(chat: ChatPage) -> None:
    pairs = [(reply(text, ids), reply(other, others)) for text, ids, other, others in PAIRS]
    counted = chat.page.evaluate(_COUNTED, [[told(one), told(other)] for one, other in pairs])
    expected = [first_difference(one, other) for one, other in pairs]
    assert counted["differences"] == [each and asdict(each) for each in expected]
    assert counted["agreement"] == pytest.approx(agreement(*zip(*pairs, strict=True)))


@pytest.fixture
def asked(page: Page, mesh: Mesh) -> list[dict[str, Any]]:
    """What the page asks. Each device is made to say what `says` has for it, so that they part at a known place."""
    bodies: list[dict[str, Any]] = []
    says = {mesh.workers[0].address: "The river runs.", mesh.workers[1].address: "The river rests."}

    def carry(route: Route) -> None:
        body: dict[str, Any] = json.loads(route.request.post_data or "")
        bodies.append(body)
        route.continue_(post_data=json.dumps(body | _saying(says[body["device"]])))

    page.route("**/v1/chat/completions", carry)
    return bodies


def _saying(text: str) -> dict[str, Any]:
    schema = {"name": "said", "schema": {"type": "string", "enum": [text]}}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def open_agreement(page: Page) -> None:
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("group", name=re.compile("Lane [12]"))).to_have_count(2)
    page.get_by_role("button", name="Agreement", exact=True).click()


def test_lanes_that_part_are_told_apart(chat: ChatPage, asked: list[dict[str, Any]]) -> None:
    page = chat.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_agreement(page)
    page.get_by_role("button", name="Compare the answers").click()
    table = page.get_by_label("Agreement of the lanes")
    expect(table.locator("tbody tr")).to_have_count(2)
    assert table.locator("th").all_inner_texts() == HEAD
    first, second = ([cell.inner_text() for cell in row.locator("td").all()] for row in table.locator("tbody tr").all())
    assert first[:4] == ["cpu", "cpu", "–", "–"]
    assert second[:2] == ["xpu", "xpu"]
    assert second[3] == "0 of 3"
    assert re.fullmatch(r"token \d+", second[4])
    assert 10 < float(second[2].removesuffix("%")) < 100
    assert float(second[5]) > float(first[5]) > 0, "the simulated accelerator is faster"
    differences = page.locator(".first-differences li")
    expect(differences).to_have_count(len(COMPARE_PROMPTS))
    expect(differences.first).to_contain_text(re.compile(r'first difference at token \d+, after "\\"The river r"'))
    expect(differences.first).to_contain_text('"uns.')
    chat.picture("agreement")
    with copying(page):
        page.get_by_role("button", name="Copy the table").locator("visible=true").click()
    page.get_by_label("Tokens at most").fill("64")  # draws the room again
    expect(page.get_by_role("button", name="Copy the table", exact=True).locator("visible=true")).to_be_visible()
    copied: str = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[:2] == [
        "| device | answered by | agreement | same | differs at | tokens/s | TTFT (ms) |",
        "| --- " * 7 + "|",
    ]
    assert "first difference at token" in copied
    check_accessible(page)
    page.set_viewport_size({"width": 360, "height": 720})
    assert page.locator("main").evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0


def test_what_is_asked_is_what_the_command_asks(chat: ChatPage, mesh: Mesh, asked: list[dict[str, Any]]) -> None:
    open_agreement(chat.page)
    chat.page.get_by_role("button", name="Compare the answers").click()
    expect(chat.page.get_by_label("Agreement of the lanes").locator("tbody tr")).to_have_count(len(mesh.workers))
    for worker in mesh.workers:
        bodies = [body for body in asked if body["device"] == worker.address]
        assert [body["messages"][0]["content"] for body in bodies] == [LOADING_PROMPT, *COMPARE_PROMPTS]
        assert [body["max_tokens"] for body in bodies] == [1, *[COMPARE_MAX_TOKENS] * len(COMPARE_PROMPTS)]
        assert {body["temperature"] for body in bodies} == {0}
    assert [body["device"] for body in asked] == sorted((body["device"] for body in asked), key=_order(mesh)), (
        "one lane after the other"
    )


def _order(mesh: Mesh) -> Any:
    return [worker.address for worker in mesh.workers].index


def test_a_base_model_continues_the_prompts(chat: ChatPage, mesh: Mesh) -> None:
    page = chat.page
    page.route("**/v1/models", _without_chat)
    open_agreement(page)
    page.get_by_label("Prompts, one a line").fill("Once upon a time\n\n  The sea  \n")
    page.get_by_label("Tokens at most").fill("8")
    with page.expect_request("**/v1/completions") as asked:
        page.get_by_role("button", name="Compare the answers").click()
    assert json.loads(asked.value.post_data or "")["prompt"] == LOADING_PROMPT
    rows = page.get_by_label("Agreement of the lanes").locator("tbody tr")
    expect(rows.nth(1)).to_contain_text("100.0%")
    expect(rows.nth(1)).to_contain_text("2 of 2")
    expect(page.locator(".first-differences")).to_have_count(0)


def _without_chat(route: Route) -> None:
    listed = route.fetch().json()
    for model in listed["data"]:
        model["capabilities"]["chat_completions"] = False
    route.fulfill(json=listed)


def test_a_lane_that_fails_is_told_and_one_alone_cannot_be_compared(chat: ChatPage, mesh: Mesh) -> None:
    page = chat.page
    refusal = {"error": {"message": "That device is gone.", "code": "device_not_available"}}
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=400, json=refusal))
    open_agreement(page)
    page.get_by_role("button", name="Compare the answers").click()
    said = page.get_by_role("alert").locator("visible=true").locator("p")
    expect(said).to_have_text([f"{lane}, loading: That device is gone." for lane in ("cpu", "xpu")])
    page.get_by_label("Remove lane 2").click()
    expect(page.get_by_role("button", name="Add a lane to compare with")).to_be_disabled()


TWICE = "(button) => { button.click(); button.click(); }"


def test_a_double_click_asks_once_and_can_be_stopped(chat: ChatPage, mesh: Mesh, asked: list[dict[str, Any]]) -> None:
    page = chat.page
    open_agreement(page)
    page.get_by_role("button", name="Compare the answers").evaluate(TWICE)
    expect(page.get_by_label("Agreement of the lanes").locator("tbody tr")).to_have_count(len(mesh.workers))
    assert len(asked) == len(mesh.workers) * (1 + len(COMPARE_PROMPTS))
    expect(page.get_by_role("button", name="Compare the answers")).to_be_visible()


def test_one_lane_that_fails_does_not_cost_what_the_others_said(chat: ChatPage, mesh: Mesh) -> None:
    page = chat.page
    refusal = {"error": {"message": "The queue for 'story' is full."}}

    def refuse_the_first(route: Route) -> None:
        body = json.loads(route.request.post_data or "")
        if body["device"] == mesh.workers[0].address and body["messages"][0]["content"] != LOADING_PROMPT:
            return route.fulfill(status=429, json=refusal)
        return route.continue_()

    page.route("**/v1/chat/completions", refuse_the_first)
    open_agreement(page)
    page.get_by_label("Tokens at most").fill("4")
    page.get_by_role("button", name="Compare the answers").click()
    rows = page.get_by_label("Agreement of the lanes").locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("xpu")
    expect(page.get_by_role("alert").locator("visible=true")).to_have_text(
        "cpu, prompt 1 of 3: The queue for 'story' is full."
    )


def test_prompts_that_did_not_come_are_asked_for_again(chat: ChatPage) -> None:
    page = chat.page
    page.route("**/compare/prompts.json", lambda route: route.abort())
    open_agreement(page)
    expect(page.get_by_role("alert").locator("visible=true")).to_contain_text("The prompts did not come")
    page.unroute("**/compare/prompts.json")
    page.get_by_role("button", name="Try again").locator("visible=true").click()
    expect(page.get_by_label("Prompts, one a line")).to_have_value("\n".join(COMPARE_PROMPTS))


def test_the_benchmark_runs_once_for_a_double_click(chat: ChatPage) -> None:
    page = chat.page
    held: list[Route] = []
    page.route("**/v1/completions", lambda route: held.append(route))  # noqa: PLW0108 - Playwright inspects it
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("button", name="Benchmark", exact=True).click()
    page.get_by_role("button", name="Run the benchmark").evaluate(TWICE)
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    expect(page.get_by_role("button", name="Run the benchmark")).to_be_visible()
    assert len(held) == 1  # the button that stops was not, as it changed, the one that runs
