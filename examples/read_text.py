"""Reads the text in a photograph: one model finds the lines, another reads each of them.

    infermesh models import --name ocr-lines \\
        pypi:rapidocr-onnxruntime==1.4.4:rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx
    infermesh models import --name ocr-letters \\
        pypi:rapidocr-onnxruntime==1.4.4:rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx
    python examples/read_text.py examples/data/page.png

The models are PP-OCR v4; the mesh at --endpoint runs them. Needs Pillow. Each line is a request of its own; they are
sent at the same time, and the mesh may run them together.
"""

import argparse
import asyncio
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infermesh_client import AsyncClient

Floats = NDArray[np.float32]
Box = tuple[int, int, int, int]
KEYS = Path(__file__).parent / "data" / "ocr_keys.txt"
"""The characters that the second model knows, one a line, from the metadata of its file."""
LEAST_SIDE, STEP = 736, 32
LINE_HEIGHT, LINE_STEP = 48, 32
SURE = 0.3
GROW = 1.6
"""The first model marks the middle of lines: their area over their circumference, times this, is missing around it."""


def pixels(picture: Image.Image) -> Floats:
    """A picture as the models take it: [1, 3, height, width], blue first, in [-1, 1]."""
    values = np.asarray(picture.convert("RGB"), np.float32)[:, :, ::-1] / 127.5 - 1
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])


def enlarged(photo: Image.Image) -> Image.Image:
    """The photograph in a size that the first model takes."""
    factor = max(1.0, LEAST_SIDE / min(photo.size))
    width, height = (max(STEP, round(side * factor / STEP) * STEP) for side in photo.size)
    return photo.resize((width, height))


def regions(marked: NDArray[np.bool_]) -> Iterator[tuple[Box, int]]:
    """The connected regions of marked pixels: (left, top, right, bottom), and how many pixels each has."""
    left = set(zip(*(place.tolist() for place in np.nonzero(marked)), strict=True))
    while left:
        edge, inside = [left.pop()], []
        while edge:
            y, x = edge.pop()
            inside.append((y, x))
            near = {(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)} & left
            left -= near
            edge += near
        ys, xs = zip(*inside, strict=True)
        yield (min(xs), min(ys), max(xs) + 1, max(ys) + 1), len(inside)


def line_boxes(chances: Floats) -> list[Box]:
    """The lines of text, from above to below, in pixels of what the first model saw."""
    boxes = []
    for (left, top, right, bottom), count in regions(chances > SURE):
        if bottom - top < 3 or count < 20:
            continue
        width, height = right - left, bottom - top
        more = round(width * height * GROW / (2 * (width + height)))
        boxes.append((max(0, left - more), max(0, top - more), right + more, bottom + more))
    return sorted(boxes, key=lambda box: box[1])


def text_of(chances: Floats, keys: list[str]) -> str:
    """The characters of a line: the likeliest at each place, each run of equal ones once. Class 0 stands for none."""
    runs = [int(kind) for kind, _ in groupby(chances.argmax(axis=-1).tolist())]
    return "".join(keys[kind - 1] for kind in runs if kind)


async def read(endpoint: str, lines_model: str, letters_model: str, photo: Image.Image) -> list[str]:
    keys = [*KEYS.read_text(encoding="utf-8").splitlines(), " "]
    large = enlarged(photo.convert("RGB"))
    async with AsyncClient(endpoint) as client:
        (found,) = (await client.infer(lines_model, {"x": pixels(large)})).values()

        async def letters(box: Box) -> str:
            line = large.crop(box)
            width = max(LINE_STEP, round(line.width * LINE_HEIGHT / line.height / LINE_STEP) * LINE_STEP)
            given = {"x": pixels(line.resize((width, LINE_HEIGHT)))}
            (chances,) = (await client.infer(letters_model, given)).values()
            return text_of(chances[0], keys)

        return list(await asyncio.gather(*map(letters, line_boxes(found[0, 0]))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--lines-model", default="ocr-lines")
    parser.add_argument("--letters-model", default="ocr-letters")
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    options = parser.parse_args()
    photo = Image.open(options.photo)
    for line in asyncio.run(read(options.endpoint, options.lines_model, options.letters_model, photo)):
        print(line)


if __name__ == "__main__":
    main()
