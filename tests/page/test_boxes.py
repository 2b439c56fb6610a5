"""Detectors' outputs as the page reads them: each usual layout gives the same box, and others give none."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.page.detectors import LAYOUTS, NO_BOXES, SIDE

_FIND = """async (told) => {
  const [outputs, frame, how] = JSON.parse(told); // much faster than what Playwright does to arrays
  const { findBoxes } = await import("/ui/models/tensors/boxes.js");
  const { nameOf } = await import("/ui/models/tensors/names.js");
  const found = findBoxes(outputs, frame, how);
  return found && found.boxes.map((box) => ({ ...box, name: nameOf(found.list, box.label) }));
}"""
_ROUND_TRIP = """async ([type, numbers]) => {
  const { decode, encode } = await import("/ui/models/tensors/values.js");
  return Array.from(decode(type, encode(type, numbers)));
}"""
_TENSOR = """async ([input, how]) => {
  const { frameOf, layoutOf, tensorOf } = await import("/ui/models/tensors/picture.js");
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [2, 1];
  const pen = picture.getContext("2d");
  for (const [x, color] of [[0, "#ff0000"], [1, "#0000ff"]]) (pen.fillStyle = color, pen.fillRect(x, 0, 1, 1));
  const layout = layoutOf(input);
  const { shape, data } = tensorOf(layout, picture, frameOf(layout, picture, how), how);
  return { shape, data: Array.from(data) };
}"""
_FRAME = """async ([shape, how]) => {
  const { frameOf, layoutOf } = await import("/ui/models/tensors/picture.js");
  const frame = frameOf(layoutOf({ name: "x", datatype: "UINT8", shape }), { width: 2, height: 1 }, how);
  return [frame.height, frame.width, frame.drawn.height];
}"""
_SOFTMAX = """async (count) => {
  const { softmax } = await import("/ui/models/tensors/scores.js");
  return softmax(Array.from({ length: count }, (_, i) => (i ? 0 : 100)))[0];
}"""
WHOLE = {"width": SIDE, "height": SIDE, "left": 0, "top": 0, "drawn": {"width": SIDE, "height": SIDE}}


@pytest.fixture
def opened(page: Page) -> Page:
    page.goto("/")
    return page


def find(page: Page, outputs: object, frame: object = WHOLE, **how: object) -> list[dict[str, Any]] | None:
    found: list[dict[str, Any]] | None = page.evaluate(_FIND, json.dumps([outputs, frame, how]))
    return found


def test_every_layout_gives_the_same_box(opened: Page) -> None:
    for layout, outputs in LAYOUTS.items():
        found = find(opened, outputs)
        assert found is not None, layout
        sure = [box for box in found if box["score"] > 0.5]
        assert [box["name"] for box in sure] == ["class 1" if layout == "ultraface" else "dog"], layout
        sides = [sure[0][side] for side in ("left", "top", "right", "bottom")]
        assert sides == pytest.approx([0.5, 0.5, 1, 1]), layout
        assert sure[0]["score"] == pytest.approx(0.9, abs=0.1), layout


def test_other_outputs_are_no_boxes(opened: Page) -> None:
    for what, outputs in NO_BOXES.items():
        assert find(opened, outputs) is None, what


def test_padding_is_taken_off_and_the_order_can_be_said(opened: Page) -> None:
    padded = {**WHOLE, "top": SIDE / 4, "drawn": {"width": SIDE, "height": SIDE / 2}}
    (box,) = find(opened, LAYOUTS["yolo_v10"], padded) or []
    assert [box[side] for side in ("left", "top", "right", "bottom")] == pytest.approx([0.5, 0.5, 1, 1])
    (box,) = find(opened, LAYOUTS["yolo_v10"], order="ltwh") or []
    assert [box[side] for side in ("left", "top", "right", "bottom")] == pytest.approx([0.5, 0.5, 1, 1])


def test_numbers_come_back_as_they_went(opened: Page) -> None:
    for type_ in ("UINT8", "INT64", "FP16", "BF16", "FP32", "FP64"):
        numbers = [0, 1, 2, 200] if "INT" in type_ else [0.0, 1.0, -0.5, 65280.0, 2**-15, 1.5]
        assert opened.evaluate(_ROUND_TRIP, [type_, numbers]) == numbers, type_


def test_a_picture_becomes_the_tensor_that_is_taken(opened: Page) -> None:
    for shape, type_, how, made in (
        ([1, 1, 2, 3], "UINT8", {"order": "rgb"}, [255, 0, 0, 0, 0, 255]),
        ([1, 1, 2, 3], "UINT8", {"order": "bgr"}, [0, 0, 255, 255, 0, 0]),
        ([-1, 3, 1, 2], "FP32", {"order": "rgb", "scale": "unit"}, [1, 0, 0, 0, 0, 1]),
        ([3, 1, 2], "FP32", {"order": "bgr", "scale": "signed"}, [-1, 1, -1, -1, 1, -1]),
        ([1, 1, 1, 2], "FP32", {"order": "rgb", "scale": "bytes"}, [76, 29]),
        ([1, 3, 1, 2], "FP16", {"order": "bgr", "scale": "imagenet"}, [-1.804, 2.64, -2.036, -2.036, 2.249, -2.118]),
    ):
        told = opened.evaluate(_TENSOR, [{"name": "x", "datatype": type_, "shape": shape}, {"fit": "stretch", **how}])
        assert told["data"] == pytest.approx(made, abs=0.001), (shape, how)
        assert told["shape"] == [abs(side) for side in shape]


def test_open_sides_follow_the_picture_or_what_is_said(opened: Page) -> None:
    assert opened.evaluate(_FRAME, [[1, -1, -1, 3], {"fit": "stretch"}]) == [320, 640, 320]
    assert opened.evaluate(_FRAME, [[1, -1, -1, 3], {"fit": "pad", "height": "40"}]) == [40, 96, 40]
    assert opened.evaluate(_FRAME, [[1, 48, -1, 3], {"fit": "pad", "width": "40"}]) == [48, 40, 20]


def test_scores_of_very_many_classes_are_weighed(opened: Page) -> None:
    assert opened.evaluate(_SOFTMAX, 300_000) == pytest.approx(1)
