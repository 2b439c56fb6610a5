"""Models of tensors tried on the page, with a real worker: a picture with boxes drawn, classes, and plain tensors."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from tests.e2e.mesh import CPU, Mesh, NewMesh
from tests.page.conftest import SCREENSHOTS
from tests.page.pages import ChatPage, check_accessible, wait_true
from tests.tensor_models.onnx_models import import_tensors, linear, save, tensor

SIDE = 32
BOX = [[[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.25, 0.25]]]
"""Two objects, as TensorFlow's detectors have them: top, left, bottom, right."""


def detector(path: Path) -> Path:
    """Sees a dog if the picture is bright, and less surely a cat."""
    nodes = [
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "parts"], ["detection_scores"]),
        helper.make_node("Identity", ["boxes"], ["detection_boxes"]),
        helper.make_node("Identity", ["classes"], ["detection_classes"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([[1 / 255, 0.3 / 255]], np.float32), "parts"),
        numpy_helper.from_array(np.array(BOX, np.float32), "boxes"),
        numpy_helper.from_array(np.array([[18, 17]], np.float32), "classes"),
    ]
    outputs = [
        tensor(f"detection_{name}", shape)
        for name, shape in (("boxes", [1, 2, 4]), ("scores", [1, 2]), ("classes", [1, 2]))
    ]
    return save(path, nodes, [tensor("image", [1, SIDE, SIDE, 3], TensorProto.UINT8)], outputs, *weights)


def classifier(path: Path) -> Path:
    """Gives the mean of each colour, of three classes."""
    node = helper.make_node("ReduceMean", ["pixels", "axes"], ["scores"], keepdims=0)
    axes = numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    return save(path, [node], [tensor("pixels", [1, 3, SIDE, SIDE])], [tensor("scores", [1, 3])], axes)


def byte_classifier(path: Path) -> Path:
    """Like `classifier`, but quantised: its scores are bytes."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "most"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["scores"], to=TensorProto.UINT8),
    ]
    weights = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(np.array(100, np.float32), "most"),
    ]
    scores = tensor("scores", [1, 3], TensorProto.UINT8)
    return save(path, nodes, [tensor("pixels", [1, 3, SIDE, SIDE])], [scores], *weights)


MODELS = {"detector": detector, "classifier": classifier, "byte-classifier": byte_classifier, "linear": linear}


@pytest.fixture(scope="module")
def real(new_mesh: NewMesh, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """A mesh whose worker has the models."""
    files, root = tmp_path_factory.mktemp("graphs"), tmp_path_factory.mktemp("home") / "models"
    root.mkdir()
    for name, write in MODELS.items():
        import_tensors(write(files / f"{name}.onnx"), root, name)
    made = new_mesh([(CPU, {"models": root, "model": "detector"})])
    made.start()
    made.wait_ready()
    return made


@pytest.fixture
def models(browser: Browser, real: Mesh) -> Iterator[Page]:
    """The models' room of that mesh."""
    context = browser.new_context(base_url=real.envoy.http, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto("/#/models")
    yield page
    context.close()


def picture(color: str) -> FilePayload:
    """A picture that is twice as wide as it is high."""
    file = io.BytesIO()
    Image.new("RGB", (400, 200), color).save(file, "PNG")
    return {"name": f"{color}.png", "mimeType": "image/png", "buffer": file.getvalue()}


def run(page: Page, model: str, color: str = "") -> Locator:
    """Tries a model. Gives the dialog."""
    page.get_by_role("button", name=f"Try it: {model}", exact=True).click()
    dialog = page.get_by_role("dialog")
    if color:
        dialog.get_by_label("Picture", exact=True).set_input_files(picture(color))
    dialog.get_by_role("button", name="Run").click()
    expect(dialog).to_contain_text("Answered in")
    return dialog


def test_boxes_are_drawn_and_listed(models: Page) -> None:
    dialog = run(models, "detector", "white")
    expect(dialog.get_by_role("img", name="The picture with 1 box: dog")).to_be_visible()
    rows = dialog.get_by_role("region", name="Boxes").locator("tbody tr")
    expect(rows).to_have_text(["dog100 %20050400150"])
    corner = "(canvas) => Array.from(canvas.getContext('2d').getImageData(200, 100, 1, 1).data)"
    assert dialog.locator("canvas").evaluate(corner) != [255, 255, 255, 255]  # the box's left side
    check_accessible(models)
    ChatPage(models, SCREENSHOTS).picture("models-detect")
    dialog.get_by_label("Lowest score shown").fill("0.25")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("cat")
    dialog.get_by_label("Classes are").select_option("numbers")
    expect(rows.nth(0)).to_contain_text("class 18")
    models.set_viewport_size({"width": 360, "height": 720})
    ChatPage(models, SCREENSHOTS).picture("models-detect-360")
    assert dialog.evaluate("(each) => each.scrollWidth - each.clientWidth") <= 0


def test_a_dark_picture_has_none(models: Page) -> None:
    dialog = run(models, "detector", "black")
    expect(dialog.get_by_role("status").nth(1)).to_have_text("0 objects of 0")


def test_what_is_no_picture_is_told(models: Page) -> None:
    models.get_by_role("button", name="Try it: detector").click()
    dialog = models.get_by_role("dialog")
    file: FilePayload = {"name": "note.png", "mimeType": "image/png", "buffer": b"text"}
    dialog.get_by_label("Picture", exact=True).set_input_files(file)
    dialog.get_by_role("button", name="Run").click()
    expect(dialog.get_by_role("alert")).to_have_text("This browser cannot read note.png as a picture.")


def test_other_outputs_are_classes_and_tensors(models: Page) -> None:
    dialog = run(models, "classifier", "lime")
    expect(dialog.locator(".bar-row").first).to_contain_text("class 1")
    expect(dialog.get_by_role("region", name="Tensors")).to_contain_text("scoresFP32[1, 3]010, 1, 0")
    check_accessible(models)
    dialog.get_by_label("Pixels become").select_option("bytes")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog.get_by_role("region", name="Tensors")).to_contain_text("0, 255, 0")


def test_scores_in_bytes_are_shares_of_their_sum(models: Page) -> None:
    dialog = run(models, "byte-classifier", "chartreuse")  # red 127, green 255
    expect(dialog.locator(".bar-row")).to_have_text(["class 167 %", "class 033 %", "class 20 %"])


def test_tensors_are_written_by_hand_where_no_picture_fits(models: Page) -> None:
    dialog = run(models, "linear")
    expect(dialog.get_by_role("region", name="Tensors")).to_contain_text("yFP32[1, 3]")
    check_accessible(models)
    dialog.get_by_label("Numbers").fill("1, 2")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog.get_by_role("alert")).to_contain_text("'x' has 2 numbers; its shape needs 4.")


COUNT_DRAWN = """() => {
  window.drawn = 0;
  const draw = CanvasRenderingContext2D.prototype.drawImage;
  CanvasRenderingContext2D.prototype.drawImage = function (...told) {
    window.drawn += 1;
    return draw.apply(this, told);
  };
}"""
MESH_SPEAKS = """async () => {
  const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
  const { mesh } = await import(loaded.find((name) => name.endsWith("/lib/mesh_feed.js"))); // the page's own
  for (let i = 0; i < 5; i++) {
    mesh.set(({ endpoints, version }) => ({ endpoints: [...endpoints], version: version + 1 }));
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  }
}"""


def test_boxes_are_found_once(models: Page) -> None:
    """Not again with each message of the mesh, nor when something else of the form is changed."""
    dialog = run(models, "detector", "white")
    expect(dialog.get_by_role("img", name="The picture with 1 box: dog")).to_be_visible()
    models.evaluate(COUNT_DRAWN)
    models.evaluate(MESH_SPEAKS)
    dialog.get_by_label("To fit the model").select_option("pad")
    models.evaluate(MESH_SPEAKS)
    assert models.evaluate("window.drawn") == 0
    dialog.get_by_label("Lowest score shown").fill("0.25")
    wait_true(models, "window.drawn === 1")
