"""What detectors of each layout give for one picture: a square with an object in its lower right quarter."""

from collections.abc import Mapping, Sequence
from typing import Any

SIDE = 128
PLACES = (SIDE // 8) ** 2 + (SIDE // 16) ** 2 + (SIDE // 32) ** 2
"""Where YOLO looks in such a picture."""
CLASSES = 80
DOG, DOG_ID = 16, 18
"""The dog among COCO's 80 classes, and its id among COCO's 90."""
Values = Sequence[float]


def output(name: str, shape: Sequence[int], data: Values) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(shape), "data": list(data)}


def rows(name: str, *told: Values) -> dict[str, Any]:
    return output(name, [1, len(told), len(told[0])], [value for row in told for value in row])


def one_of(count: int, place: int, value: float, other: float = 0.0) -> list[float]:
    return [value if i == place else other for i in range(count)]


def _yolo(objectness: bool) -> list[list[float]]:
    """A row for each place. Two neighbours found the same object."""
    told = []
    for place in range(PLACES):
        score = {3: 0.9, 4: 0.8}.get(place, 0.0)
        box = [96.0, 96.0, 64.0, 64.0] if score else [8.0, 8.0, 4.0, 4.0]
        told.append([*box, *([score] if objectness else []), *one_of(CLASSES, DOG, 1.0 if objectness else score)])
    return told


_UPRIGHT = [list(column) for column in zip(*_yolo(objectness=False), strict=True)]
_MASKS = output("masks", [1, 2, 4, 4], [0.0] * 32)
_PIXELS, _PARTS, _TOP_FIRST, _CENTRE = (
    [64.0, 64.0, 128.0, 128.0],
    [0.5, 0.5, 1.0, 1.0],
    [0.5, 0.5, 1.0, 1.0],
    [0.75, 0.75, 0.5, 0.5],
)
_NOTHING = one_of(CLASSES, 0, -4.0, -5.0)

LAYOUTS: Mapping[str, Sequence[dict[str, Any]]] = {
    "tensorflow": [
        rows("detection_boxes:0", _TOP_FIRST, [0.0, 0.0, 0.1, 0.2]),
        output("detection_classes:0", [1, 2], [DOG_ID, 1]),
        output("detection_scores:0", [1, 2], [0.9, 0.01]),
        output("num_detections:0", [1], [2]),
    ],
    "tensorflow_lite": [
        rows("TFLite_Detection_PostProcess", _TOP_FIRST, [0.0, 0.0, 0.1, 0.2]),
        output("TFLite_Detection_PostProcess:1", [1, 2], [DOG_ID - 1, 0]),
        output("TFLite_Detection_PostProcess:2", [1, 2], [0.9, 0.01]),
        output("TFLite_Detection_PostProcess:3", [1], [2]),
    ],
    "coco_ssd": [
        output("boxes", [1, 2, 1, 4], [*_TOP_FIRST, *_TOP_FIRST]),
        rows("scores", one_of(90, DOG_ID - 1, 0.9), one_of(90, DOG_ID - 1, 0.8)),
    ],
    "torchvision": [
        output("boxes", [2, 4], [*_PIXELS, 0, 0, 9, 9]),
        output("labels", [2], [DOG_ID, 1]),
        output("scores", [2], [0.9, 0.01]),
    ],
    "detr": [
        rows("logits", one_of(92, DOG_ID, 8.0), *[one_of(92, 91, 8.0)] * 3),
        rows("pred_boxes", _CENTRE, *[[0.1, 0.1, 0.1, 0.1]] * 3),
    ],
    "rt_detr": [
        rows("logits", one_of(CLASSES, DOG, 3.0, -5.0), _NOTHING, _NOTHING, _NOTHING),
        rows("pred_boxes", _CENTRE, *[[0.1, 0.1, 0.1, 0.1]] * 3),
    ],
    "yolo_v5": [rows("output", *_yolo(objectness=True))],
    "yolo_v8": [rows("output0", *_UPRIGHT)],
    "yolo_v8_with_masks": [rows("output0", *_UPRIGHT, *[[0.5] * PLACES] * 2), _MASKS],
    "yolo_v10": [rows("output0", [*_PIXELS, 0.9, DOG], [0.0, 0.0, 1.0, 1.0, 0.001, 0.0])],
    "yolo_v7_with_suppression": [output("output", [1, 7], [0, *_PIXELS, DOG, 0.9])],
    "paddle": [output("multiclass_nms3_0", [2, 6], [DOG, 0.9, *_PIXELS, -1, 0.0, 0, 0, 0, 0])],
    "mmdetection": [rows("dets", [*_PIXELS, 0.9]), output("labels", [1, 1], [DOG])],
    "openvino": [output("detection_out", [1, 1, 2, 7], [0, DOG_ID, 0.9, *_PARTS, -1, 0, 0, 0, 0, 0, 0])],
    "ultraface": [
        rows("scores", [0.1, 0.9], [0.99, 0.01], [0.98, 0.02]),
        rows("boxes", _PARTS, [0.0, 0.0, 0.1, 0.1], [0.0, 0.0, 0.1, 0.1]),
    ],
}
"""By the name of the layout."""
NO_BOXES: Mapping[str, Sequence[dict[str, Any]]] = {
    "classes": [output("probabilities", [1, 1000], one_of(1000, 7, 0.9))],
    "few_classes": [output("logits", [1, 7], [0.2, 1.5, 0.3, -1.0, 2.0, 0.1, 0.2])],
    "letters": [output("softmax", [1, 40, 97], one_of(40 * 97, 3, 1.0))],
    "heat": [output("sigmoid", [1, 1, 64, 64], [0.5] * 4096)],
    "four": [output("logits", [1, 4], [0.1, 0.2, 0.3, 0.4])],
}
"""Outputs that are no list of boxes."""
