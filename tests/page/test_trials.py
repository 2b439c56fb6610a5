"""Trials of models on the page, and its table where models are on several endpoints. The test plays the models."""

import io
import re
import wave
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Request, Route, expect

from tests.e2e.mesh import Mesh
from tests.page.kinds import Endpoints, add_models, made, retell, telling
from tests.page.pages import ChatPage, check_accessible

SOUND: FilePayload = {"name": "sound.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}


def open_trial(page: Page, kind: str) -> Locator:
    """The trial of a model of that kind, in the room of a mesh that the test has changed."""
    page.goto("/#/models")
    page.reload()
    page.get_by_role("button", name=f"Try it: some-{kind}", exact=True).click()
    return page.get_by_role("dialog")


def middle_of(shown: Locator) -> float:
    """The height of its middle, in pixels."""
    middle: float = shown.evaluate(
        "(each) => { const { y, height } = each.getBoundingClientRect(); return y + height / 2 }"
    )
    return middle


def say_nothing(route: Route) -> None:
    """Leaves a request without an answer."""


@pytest.mark.parametrize("way", ["Stop", "Close"])
def test_an_answer_that_nobody_waits_for_is_not_made(page: Page, way: str) -> None:
    page.route("**/v1/embeddings", say_nothing)
    add_models(page, ["embed"], loaded=True)
    dialog = open_trial(page, "embed")
    with page.expect_request("**/v1/embeddings"):
        dialog.get_by_role("button", name="Embed", exact=True).click()
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/embeddings")):
        dialog.get_by_role("button", name=way, exact=True).click()
    if way == "Stop":
        expect(dialog.get_by_role("button", name="Embed", exact=True)).to_be_enabled()
        expect(dialog.get_by_role("alert")).to_have_count(0)


def test_a_trial_shows_how_far_the_model_is_loaded(page: Page) -> None:
    def loading(endpoints: Endpoints) -> None:
        endpoints[1]["models"].append(made(endpoints[1], "embed", state="loading", load_fraction=0.25))

    page.route("**/v1/embeddings", say_nothing)
    retell(page, loading)
    dialog = open_trial(page, "embed")
    dialog.get_by_role("button", name="Embed", exact=True).click()
    expect(dialog.get_by_role("status")).to_have_text("Asking… The mesh loads the model first.")
    expect(dialog.get_by_role("progressbar", name="Loading some-embed")).to_have_attribute("value", "0.25")
    check_accessible(page)


def test_the_focus_goes_back_to_a_row_that_has_moved(page: Page) -> None:
    lists = ["available"]

    def with_model(endpoints: Endpoints) -> None:
        for each in lists:
            endpoints[0][each].append(made(endpoints[0], "embed"))

    retell(page, with_model)
    dialog = open_trial(page, "embed")
    row = page.locator("tr", has_text="some-embed")
    expect(row).to_contain_text("on disk")
    lists.append("models")  # the page asks again, because its events end
    expect(row).not_to_contain_text("on disk")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Try it: some-embed", exact=True)).to_be_focused()


def test_bars_belong_to_the_texts_that_were_sent(page: Page) -> None:
    page.route("**/v1/embeddings", telling({"data": [{"embedding": [1.0, 0.0]}, {"embedding": [0.6, 0.8]}]}))
    add_models(page, ["embed"], loaded=True)
    dialog = open_trial(page, "embed")
    texts = dialog.get_by_label("Texts, one a line")
    texts.fill("first\nsecond")
    dialog.get_by_role("button", name="Embed", exact=True).click()
    expect(dialog.locator(".bar-row")).to_have_text(["second0.6"])
    texts.fill("other\nwords")
    expect(dialog.locator(".bar-row")).to_have_text(["second0.6"])


def test_of_many_texts_the_first_are_drawn(page: Page) -> None:
    """A thousand bars take seconds to draw, with each letter that is typed."""
    page.route("**/v1/embeddings", telling({"data": [{"embedding": [1.0, 0.0]}] * 1001}))
    add_models(page, ["embed"], loaded=True)
    dialog = open_trial(page, "embed")
    dialog.get_by_label("Texts, one a line").fill("\n".join(["word"] * 1001))
    dialog.get_by_role("button", name="Embed", exact=True).click()
    expect(dialog).to_contain_text("How close to the first line (cosine), the first 50 of 1,000")
    expect(dialog.locator(".bar-row")).to_have_count(50)


def test_documents_are_ranked_by_a_question(page: Page) -> None:
    scores = {2: 0.9, 0: 0.5, 1: 0.1}
    ranked = [{"index": index, "relevance_score": score} for index, score in scores.items()]
    page.route("**/v1/rerank", telling({"results": ranked}))
    add_models(page, ["rerank"], loaded=True)
    dialog = open_trial(page, "rerank")
    dialog.get_by_label("Documents, one a line").fill("cheese\nwine\nParis")
    dialog.get_by_role("button", name="Rank", exact=True).click()
    expect(dialog.locator(".bar-row")).to_have_text(["Paris0.9", "cheese0.5", "wine0.1"])
    dialog.get_by_label("Question").fill(" ")
    expect(dialog.get_by_role("button", name="Rank", exact=True)).to_be_disabled()


def test_silence_is_told(page: Page) -> None:
    page.route("**/v1/audio/transcriptions", telling({"text": " "}))
    add_models(page, ["transcribe"], loaded=True)
    dialog = open_trial(page, "transcribe")
    dialog.get_by_label("Sound", exact=True).set_input_files(SOUND)
    dialog.get_by_role("button", name="Transcribe", exact=True).click()
    expect(dialog).to_contain_text("The model heard no words.")


@pytest.mark.parametrize(("kind", "advice"), [("wav", " MP3 or OGG make it smaller."), ("mp3", "")])
def test_a_sound_that_is_too_long_is_told_with_its_size(page: Page, kind: str, advice: str) -> None:
    refusal = {"error": {"message": "The request body is larger than 64 MiB"}}
    page.route("**/v1/audio/transcriptions", lambda route: route.fulfill(status=413, json=refusal))
    add_models(page, ["transcribe"], loaded=True)
    dialog = open_trial(page, "transcribe")
    dialog.get_by_label("Sound", exact=True).set_input_files(
        {**SOUND, "name": f"sound.{kind}", "buffer": bytes(3 << 20)}
    )
    dialog.get_by_role("button", name="Transcribe", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_text(
        f"The sound is too long: it is 3 MiB as {kind.upper()}. The request body is larger than 64 MiB.{advice}"
    )


def test_the_microphone_is_transcribed(page: Page, pictures: ChatPage) -> None:
    requests: list[Request] = []

    def answer(route: Route) -> None:
        requests.append(route.request)
        route.fulfill(json={"text": "what was said"})

    page.route("**/v1/audio/transcriptions", answer)
    add_models(page, ["transcribe"], loaded=True)
    dialog = open_trial(page, "transcribe")
    dialog.get_by_role("button", name="Record the microphone").click()
    expect(dialog.get_by_text("Listening…")).to_be_visible()
    expect(dialog.get_by_role("button", name="Transcribe", exact=True)).to_be_disabled()
    check_accessible(page)
    pictures.picture("models-listening")
    dialog.get_by_role("button", name="Done").click()
    expect(dialog.get_by_text("Recorded.")).to_be_visible()
    dialog.get_by_role("button", name="Transcribe", exact=True).click()
    expect(dialog).to_contain_text("what was said")
    body = requests[0].post_data_buffer or b""
    with wave.open(io.BytesIO(body[body.index(b"RIFF") :])) as sent:
        assert sent.getframerate() == 16_000


def test_a_microphone_that_is_not_allowed_costs_no_file(page: Page) -> None:
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError') }"
    )
    page.route("**/v1/audio/transcriptions", telling({"text": "what was said"}))
    add_models(page, ["transcribe"], loaded=True)
    dialog = open_trial(page, "transcribe")
    dialog.get_by_label("Sound", exact=True).set_input_files(SOUND)
    dialog.get_by_role("button", name="Record the microphone").click()
    expect(dialog.get_by_text("The browser was not allowed to use the microphone.")).to_be_visible()
    expect(dialog.get_by_label("Sound", exact=True)).to_have_value(re.compile(r"sound\.wav$"))
    dialog.get_by_role("button", name="Transcribe", exact=True).click()
    expect(dialog).to_contain_text("what was said")


def test_speech_is_saved(page: Page, tmp_path: Path) -> None:
    page.route("**/v1/audio/speech", lambda route: route.fulfill(body=b"RIFF", content_type="audio/wav"))
    add_models(page, ["speak"], loaded=True)
    dialog = open_trial(page, "speak")
    dialog.get_by_role("button", name="Speak", exact=True).click()
    with page.expect_download() as saved:
        dialog.get_by_role("link", name="Save it as WAV").click()
    assert saved.value.suggested_filename == "some-speak.wav"
    assert saved.value.path().read_bytes() == b"RIFF"


def test_a_model_that_the_second_endpoint_loads_is_seen(page: Page) -> None:
    def loading(endpoints: Endpoints) -> None:
        endpoints[0]["available"].append(made(endpoints[0], "embed", state=""))
        endpoints[1]["models"].append(made(endpoints[1], "embed", state="loading", load_fraction=0.5))
        endpoints[1]["name"] = "second"

    retell(page, loading)
    page.goto("/#/models")
    expect(page.locator("tr", has_text="some-embed")).to_contain_text("loading on second, 50 %")


def test_a_pinned_model_is_seen(page: Page) -> None:
    def pinned(endpoints: Endpoints) -> None:
        endpoints[0]["available"].append(made(endpoints[0], "embed", state="ready"))
        endpoints[1]["models"].append(made(endpoints[1], "embed", pinned=True))

    retell(page, pinned)
    page.goto("/#/models")
    expect(page.locator("tr", has_text="some-embed")).to_contain_text("pinned")


def test_on_a_phone_a_box_stands_beside_its_words(page: Page, mesh: Mesh) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Models").click()
    box = page.get_by_label("Replace a model of this name")
    assert middle_of(box) == pytest.approx(middle_of(box.locator("xpath=..")), abs=3)


def test_a_model_that_failed_to_load_is_seen_and_unloaded(page: Page, mesh: Mesh) -> None:
    def failed(endpoints: Endpoints) -> None:
        endpoints[0] |= {"name": "first", "models": [made(endpoints[0], "embed", state="failed")]}
        endpoints[0]["available"].append(made(endpoints[0], "embed", state="failed"))

    retell(page, failed)
    page.route(re.compile("mesh/v1/models/some-embed:unload"), telling({}))
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Models").click()
    expect(page.locator("tr", has_text="some-embed")).to_contain_text("failed to load on first")
    with page.expect_request("**/mesh/v1/models/some-embed:unload"):
        page.get_by_role("button", name="Unload some-embed", exact=True).click()


def test_a_model_that_failed_to_load_is_not_loaded_in_the_mesh(page: Page, mesh: Mesh) -> None:
    def failed(endpoints: Endpoints) -> None:
        failure = made(endpoints[0], "embed", state="failed", memory_bytes=1 << 30, pinned=False)
        endpoints[0] |= {"name": "first", "models": [failure]}
        endpoints[1]["models"] = [made(endpoints[1], "rerank", pinned=False)]

    retell(page, failed)
    page.goto(f"/#manage={mesh.manage_key}")
    page.get_by_role("link", name="Mesh", exact=True).click()
    expect(page.locator(".page-head")).to_contain_text("2 endpoints, 1 model loaded")
    facts = page.get_by_label("Endpoint first", exact=True).locator(".model-facts")
    expect(facts).to_have_text("failed to load")
    expect(page.get_by_label("Pin some-rerank")).to_be_visible()
    expect(page.get_by_label("Pin some-embed")).to_have_count(0)
    expect(page.get_by_label("Unload some-embed everywhere")).to_be_visible()
