"""The front's rules give as many tokens as the device's processors make features, for images of any size."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from infermesh_runtime.manifest.image_facts import Grid, ImageFacts, Tiles
from infermesh_worker.images.layout import placeholder, split

SIZES = [tuple(size) for size in np.random.default_rng(5).integers(1, 260, (60, 2)).tolist()]
EDGES = [(1, 1), (1, 60), (60, 1), (16, 16), (64, 64), (65, 64), (64, 65), (63, 64), (5000, 40)]


@pytest.mark.parametrize("longest", [16, 64, 70])
def test_tiles(longest: int) -> None:
    processor: Any = Idefics3ImageProcessorPil(size={"longest_edge": longest}, max_image_size={"longest_edge": 16})
    tiles = Tiles(longest_edge=longest, edge=16, tokens=4)
    for width, height in SIZES + EDGES:
        made = processor(images=[Image.new("RGB", (width, height))], return_row_col_info=True)
        assert split(tiles, width, height) == (made["rows"][0][0], made["cols"][0][0]), (width, height)


def test_grids() -> None:
    processor = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, min_pixels=1000, max_pixels=20_000)
    facts = ImageFacts(layout=Grid(edge=8, least_pixels=1000, most_pixels=20_000), written="i", seen="i")
    for width, height in SIZES + EDGES:
        _, rows, columns = processor(images=[Image.new("RGB", (width, height))])["image_grid_thw"][0].tolist()
        stands = placeholder(facts, width, height)
        assert stands.grid == (rows // 2, columns // 2), (width, height)
        assert stands.tokens == rows * columns // 4
