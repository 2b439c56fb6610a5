"""The other rooms: workers compared, the benchmark, the mesh live with drain and resume, models loaded and tried."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.kinds import add_models, telling
from tests.page.pages import ChatPage, wait_true


@pytest.fixture
def room(chat: ChatPage) -> ChatPage:
    """The page with a mesh that has answered something."""
    chat.settings(Longest_answer=20)
    chat.send("Begin")
    chat.wait_done()
    return chat


def test_one_prompt_in_two_lanes(room: ChatPage) -> None:
    page = room.page
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("group", name=re.compile("Lane [12]"))).to_have_count(2)
    page.get_by_label("Longest answer").fill("60")
    page.get_by_role("button", name="Run in 2 lanes").click()
    figures = page.get_by_label("Figures", exact=True)
    expect(figures.locator("tbody tr")).to_have_count(2)
    expect(figures.locator("tbody tr").nth(0)).to_contain_text("cpu")
    expect(figures.locator("tbody tr").nth(1)).to_contain_text("xpu")
    expect(figures.locator("figure.bars")).to_have_count(3)
    expect(page.locator(".lane-answer").nth(1)).to_contain_text("The same, word for word.")
    room.picture("compare")


def test_workers_on_one_kind_of_device_are_told_apart(room: ChatPage) -> None:
    page = room.page
    page.route("**/mesh/v1/events", lambda route: route.abort())
    page.route("**/mesh/v1/endpoints", _both_on_a_cpu)
    page.reload()
    page.get_by_role("link", name="Compare").click()
    chosen = page.locator("select[id^=lane-device]")
    expect(chosen).to_have_count(2)
    assert [lane.locator("option:checked").inner_text() for lane in chosen.all()] == [
        "cpu:0 · openvino · simulated",
        "cpu:1 · torch · simulated",
    ]
    page.get_by_label("Longest answer").first.fill("8")
    page.get_by_role("button", name="Run in 2 lanes").click()
    expect(page.locator(".lane-answer h2")).to_have_text(["cpu:0 (openvino)", "cpu:1 (torch)"])


def _both_on_a_cpu(route: Route) -> None:
    told = route.fetch().json()
    for number, (endpoint, runtime) in enumerate(zip(told["endpoints"], ("openvino 1", "torch 2"), strict=True)):
        endpoint |= {"name": f"cpu:{number}", "runtime": runtime}
        endpoint["device"]["kind"] = "cpu"
    route.fulfill(json=told)


def test_lanes_that_differ_are_marked(room: ChatPage) -> None:
    page = room.page
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("Longest answer").fill("80")
    page.locator("select[id^=lane-model]").nth(1).select_option("spare")
    page.get_by_role("button", name="Run in 2 lanes").click()
    expect(page.get_by_label("Figures", exact=True).locator("tbody tr")).to_have_count(2)
    expect(page.locator(".lane-answer").nth(1)).to_contain_text(re.compile("The same"))


def test_the_benchmark_measures_1_4_and_16_streams(room: ChatPage) -> None:
    page = room.page
    page.get_by_role("link", name="Compare").click()
    page.get_by_role("button", name="Benchmark", exact=True).click()
    page.get_by_label("Tokens of each answer").fill("16")
    page.get_by_role("button", name="Run the benchmark").click()
    rows = page.get_by_label("Results", exact=True).locator("tbody tr")
    expect(rows).to_have_count(6)
    expect(page.get_by_role("button", name="Copy the table")).to_be_visible()
    streams = [row.locator("td").nth(1).inner_text() for row in rows.all()]
    assert streams == ["1", "4", "16"] * 2
    speeds = [float(row.locator("td").nth(2).inner_text().split()[0].replace(",", "")) for row in rows.all()]
    assert speeds[2] > speeds[0] > 0  # sixteen streams together are faster than one
    room.picture("benchmark")


def test_the_mesh_is_shown_live_and_drained_and_resumed(room: ChatPage, mesh: Mesh) -> None:
    page = room.page
    page.goto(f"/#manage={mesh.manage_key}")  # in a tab that has the page already
    page.get_by_role("link", name="Mesh", exact=True).click()
    endpoint = page.get_by_label("Endpoint cpu", exact=True)
    expect(endpoint).to_contain_text("ready")
    expect(endpoint).to_contain_text("free of 16 GiB")
    expect(endpoint).to_contain_text("story")
    expect(page.locator(".timeline canvas")).to_be_visible()
    expect(page.locator(".log")).to_contain_text("Sent to")
    page.get_by_label("Drain cpu").click()
    expect(endpoint.locator(".state")).to_have_text("draining")
    expect(page.locator(".sign")).to_have_text("1 of 2 ready")
    expect(page.locator(".log li").first).to_contain_text("cpu is draining")
    room.picture("mesh")
    page.get_by_label("Resume cpu").click()
    expect(endpoint.locator(".state")).to_have_text("ready")
    mesh.wait_ready()


def test_a_model_is_pinned_on_an_endpoint(room: ChatPage, mesh: Mesh) -> None:
    page = room.page
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Mesh", exact=True).click()
    endpoint = page.get_by_label("Endpoint cpu", exact=True)
    expect(endpoint.locator(".model-list")).to_contain_text("story")
    loaded = page.get_by_label("Unload spare everywhere")
    if loaded.count():  # by another test
        loaded.first.click()
    expect(loaded).to_have_count(0)
    endpoint.get_by_label("Model to load on cpu").select_option("spare")
    endpoint.get_by_role("button", name="Load", exact=True).click()
    endpoint.get_by_label("Pin spare").click()
    model = endpoint.locator(".model-list li", has_text="spare")
    expect(model.locator(".pinned")).to_be_visible()
    expect(endpoint.get_by_label("Pin spare")).to_have_count(0)
    with mesh.http() as http:
        endpoints = http.get("/mesh/v1/endpoints").json()["endpoints"]
    pinned = [
        each["name"] for each in endpoints for model in each["models"] if model["name"] == "spare" and model["pinned"]
    ]
    assert pinned == ["cpu"]
    endpoint.get_by_label("Unload spare everywhere").click()
    expect(model).to_have_count(0)


def test_models_are_loaded_unloaded_and_tried(room: ChatPage, mesh: Mesh) -> None:
    page = room.page
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Models").click()
    spare = page.locator("tr", has_text="spare")
    expect(spare).to_contain_text("2 GiB")
    if spare.get_by_role("button", name="Unload spare").count():
        spare.get_by_role("button", name="Unload spare").click()
    spare.get_by_role("button", name="Load spare", exact=True).click()
    expect(spare.get_by_role("button", name="Unload spare")).to_be_enabled()
    room.picture("models")
    spare.get_by_role("button", name="Unload spare").click()
    expect(spare).to_contain_text("on disk")
    page.get_by_label("Try it: spare").click()
    expect(page.locator("#model")).to_have_value("spare")


def test_kinds_of_models_are_tried(page: Page, chat: ChatPage, tmp_path: Path) -> None:
    """The simulated workers have no such models, so the answers are those of the documented API, told by the test."""
    answers = {
        "v1/embeddings": {"data": [{"embedding": [1.0, 0.0]}, {"embedding": [0.6, 0.8]}]},
        "v1/rerank": {"results": [{"index": 1, "relevance_score": 0.9, "document": {"text": "Paris"}}]},
        "v1/audio/transcriptions": {"text": "what was said"},
    }
    for path, answer in answers.items():
        page.route(f"**/{path}", telling(answer))
    page.route("**/v1/audio/speech", lambda route: route.fulfill(body=b"RIFF", content_type="audio/wav"))
    add_models(page, ("embed", "rerank", "transcribe", "speak"))
    page.goto("/#/models")
    page.reload()
    sound = tmp_path / "sound.wav"
    sound.write_bytes(b"RIFF")
    for kind, button, shown in (
        ("embed", "Embed", "2 vectors of 2 numbers"),
        ("rerank", "Rank", "Paris"),
        ("transcribe", "Transcribe", "what was said"),
        ("speak", "Speak", "Answered in"),
    ):
        page.get_by_label(f"Try it: some-{kind}").click()
        dialog = page.get_by_role("dialog")
        if kind == "transcribe":
            dialog.locator("input[type=file]").set_input_files(sound)
        dialog.get_by_role("button", name=button, exact=True).click()
        expect(dialog).to_contain_text(shown)
        page.keyboard.press("Escape")


ADDRESSES = """() => {
  window.addresses = new Set();
  const make = URL.createObjectURL.bind(URL), back = URL.revokeObjectURL.bind(URL);
  URL.createObjectURL = (blob) => {
    const made = make(blob);
    window.addresses.add(made);
    return made;
  };
  URL.revokeObjectURL = (url) => {
    window.addresses.delete(url);
    back(url);
  };
}"""


def test_speech_is_let_go_when_it_is_shown_no_more(page: Page, chat: ChatPage) -> None:
    page.route("**/v1/audio/speech", lambda route: route.fulfill(body=b"RIFF", content_type="audio/wav"))
    add_models(page, ("speak",))
    page.goto("/#/models")
    page.reload()
    page.evaluate(ADDRESSES)
    page.get_by_label("Try it: some-speak").click()
    speech = page.get_by_role("dialog").get_by_label("The speech")
    for _ in range(2):
        before = speech.get_attribute("src") if speech.count() else ""
        page.get_by_role("dialog").get_by_role("button", name="Speak", exact=True).click()
        expect(speech).not_to_have_attribute("src", before or "-")
        assert page.evaluate("[...window.addresses]") == [speech.get_attribute("src")]
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    wait_true(page, "window.addresses.size === 0")


def test_a_trial_that_cannot_be_loaded_is_told(page: Page, chat: ChatPage) -> None:
    page.route("**/tensors/trial.js", lambda route: route.abort())
    add_models(page, ("infer",))
    page.goto("/#/models")
    page.reload()
    page.get_by_label("Try it: some-infer").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("The trial could not be loaded")
    page.unroute("**/tensors/trial.js")
    page.keyboard.press("Escape")
    page.get_by_label("Try it: some-infer").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("The model 'some-infer' does not exist")
