"""Sound in the chat: a file or the microphone becomes text in the message. The test plays the model that hears it."""

import io
import wave
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.page.kinds import add_models
from tests.page.pages import ChatPage, check_accessible, wait_true

RATE = 16_000


@pytest.fixture
def heard(page: Page, chat: ChatPage) -> list[Request]:
    """What a model that transcribes was sent; the chat of a mesh that has one."""
    requests: list[Request] = []

    def answer(route: Route) -> None:
        requests.append(route.request)
        route.fulfill(json={"text": " what was said "})

    add_models(page, ["transcribe"], loaded=True)
    page.route("**/v1/audio/transcriptions", answer)
    page.reload()
    return requests


def sent_file(request: Request) -> bytes:
    """The file in a form."""
    body = request.post_data_buffer or b""
    begin = body.index(b"\r\n\r\n", body.index(b'name="file"')) + 4
    return body[begin : body.rindex(b"\r\n--")]


def sound(page: Page) -> None:
    page.get_by_role("button", name="Ask by sound").click()


def test_a_mesh_that_hears_nothing_has_no_button(chat: ChatPage) -> None:
    expect(chat.page.get_by_role("button", name="Ask by sound")).to_have_count(0)


def test_a_file_is_written_down_behind_what_is_typed(page: Page, heard: list[Request], tmp_path: Path) -> None:
    file = tmp_path / "question.flac"
    file.write_bytes(b"fLaC")
    page.get_by_label("Message", exact=True).fill("Answer this:")
    sound(page)
    page.get_by_label("Sound file", exact=True).set_input_files(file)
    expect(page.get_by_label("Message", exact=True)).to_have_value("Answer this: what was said")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    form = heard[0].post_data_buffer or b""
    assert b"some-transcribe" in form
    assert b'filename="question.flac"' in form


LISTENED = """() => {
  window.tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    window.tracks.push(...stream.getTracks());
    return stream;
  };
}"""


def tracks(page: Page) -> list[str]:
    """The states of what the page listened with: "live" or "ended"."""
    states: list[str] = page.evaluate("window.tracks.map(({ readyState }) => readyState)")
    return states


def test_the_microphone_is_recorded_as_wav(page: Page, heard: list[Request], pictures: ChatPage) -> None:
    page.evaluate(LISTENED)
    sound(page)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_text("Listening")).to_be_visible()
    expect(page.get_by_text("0:01")).to_be_visible()
    check_accessible(page)
    pictures.picture("chat-listening")
    assert tracks(page) == ["live"]
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_label("Message", exact=True)).to_have_value("what was said")
    assert tracks(page) == ["ended"]
    with wave.open(io.BytesIO(sent_file(heard[0]))) as sent:
        assert (sent.getnchannels(), sent.getsampwidth(), sent.getframerate()) == (1, 2, RATE)
        assert sent.getnframes() > RATE  # more than a second was recorded
        assert any(sent.readframes(sent.getnframes()))  # Chromium's microphone beeps


def test_who_closes_it_is_heard_no_more(page: Page, heard: list[Request]) -> None:
    page.evaluate(LISTENED)
    sound(page)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_text("Listening")).to_be_visible()
    page.get_by_role("button", name="No sound").click()
    wait_true(page, "window.tracks.every(({ readyState }) => readyState === 'ended')")
    assert tracks(page) == ["ended"]


NO_CODEC = "throw new Error('no codec')"
BROKEN = [
    f"window.MediaRecorder = class {{ constructor() {{ {NO_CODEC} }} }}",
    f"MediaRecorder.prototype.start = () => {{ {NO_CODEC} }}",
]


@pytest.mark.parametrize("broken", BROKEN, ids=["made", "started"])
def test_a_microphone_that_cannot_be_recorded_is_left(page: Page, heard: list[Request], broken: str) -> None:
    page.evaluate(LISTENED)
    page.evaluate(f"() => {{ {broken}; }}")
    sound(page)
    page.get_by_role("button", name="Record").click()
    expect(page.get_by_role("status").filter(has_text="cannot record the microphone: no codec")).to_be_visible()
    assert tracks(page) == ["ended"]
    expect(page.get_by_role("button", name="Record")).to_be_visible()


def test_sound_that_cannot_be_loaded_is_told(page: Page, heard: list[Request]) -> None:
    page.route("**/lib/sound.js", lambda route: route.abort())
    sound(page)
    expect(page.get_by_role("status").filter(has_text="Sound could not be loaded")).to_be_visible()


def test_what_is_no_sound_is_told(page: Page, heard: list[Request], tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("no sound")
    sound(page)
    page.get_by_label("Sound file", exact=True).set_input_files(file)
    expect(page.get_by_text("This browser finds no sound in note.txt")).to_be_visible()
    expect(page.get_by_role("button", name="Record")).to_be_visible()
    assert not heard


def test_a_page_that_came_unsafely_has_files_only(page: Page, heard: list[Request]) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    page.reload()
    sound(page)
    expect(page.get_by_role("button", name="Sound file…")).to_be_visible()
    expect(page.get_by_text("Browsers lend the microphone only over https")).to_be_visible()
    expect(page.get_by_role("button", name="Record")).to_have_count(0)
    page.get_by_role("button", name="No sound").click()
    expect(page.get_by_role("group", name="Ask by sound")).to_have_count(0)


def test_it_fits_a_phone(page: Page, heard: list[Request], pictures: ChatPage) -> None:
    page.set_viewport_size({"width": 360, "height": 720})
    sound(page)
    expect(page.get_by_role("button", name="Record")).to_be_visible()
    pictures.picture("chat-sound-360")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
