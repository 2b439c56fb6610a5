"""Says which tokens stand for an image of some size, as transformers' processors of each family do."""

import math
from dataclasses import dataclass

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.image_facts import Grid, ImageFacts, Tiles, Whole

_MOST_EDGE = 4096
"""Longest edge that transformers scales an image of tiles to."""
_MOST_ASPECT = 200
"""Most that an image of a grid may be longer than wide, and the other way round."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """What a prompt has in place of an image."""

    text: str
    """The tokens in text, which replaces the one that the chat template wrote."""
    tokens: int
    """How many of them are the token whose embeddings are replaced."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of these, where rotary positions follow them."""


def placeholder(facts: ImageFacts, width: int, height: int, *, closely: bool = True) -> Placeholder:
    """What stands for an image of this size in pixels. Raises InvalidArgument for a shape that the model cannot take.

    `closely`: whether a model of tiles looks at the tiles too.
    """
    match facts.layout:
        case Tiles() as tiles:
            rows, columns = split(tiles, width, height) if closely else (0, 0)
            return Placeholder(_tiled(facts, tiles, rows, columns), tiles.tokens * (rows * columns + 1))
        case Grid() as grid:
            rows, columns = _squares(grid, width, height)
            count = rows * columns
            return Placeholder(facts.before + facts.seen * count + facts.after, count, (rows, columns))
        case Whole(tokens=count):
            return Placeholder(facts.before + facts.seen * count + facts.after, count)


def split(tiles: Tiles, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of the tiles of an image; (0, 0) if it is not cut."""
    if not tiles.splits:
        return 0, 0
    height, width = _scaled(height, width, tiles.longest_edge)
    aspect, edge = width / height, tiles.edge
    if width >= height:
        columns = math.ceil(width / edge)
        rows = math.ceil(int(columns * edge / aspect) / edge)
    else:
        rows = math.ceil(height / edge)
        columns = math.ceil(int(rows * edge * aspect) / edge)
    return (0, 0) if rows == columns == 1 else (rows, columns)


def _scaled(height: int, width: int, longest: int) -> tuple[int, int]:
    """Height and width after the longer edge was scaled, with transformers' roundings."""
    aspect = width / height
    if width >= height:
        width, height = longest, int(longest / aspect)
        height += height % 2
    else:
        height, width = longest, int(longest * aspect)
        width += width % 2
    height, width = max(height, 1), max(width, 1)
    aspect = width / height
    if width >= height and width > _MOST_EDGE:
        width, height = _MOST_EDGE, int(_MOST_EDGE / aspect)
    elif height > width and height > _MOST_EDGE:
        height, width = _MOST_EDGE, int(_MOST_EDGE * aspect)
    return max(height, 1), max(width, 1)


def _tiled(facts: ImageFacts, tiles: Tiles, rows: int, columns: int) -> str:
    seen = facts.seen * tiles.tokens
    cut = "".join(
        "".join(f"{facts.before}<row_{row}_col_{column}>{seen}" for column in range(1, columns + 1)) + "\n"
        for row in range(1, rows + 1)
    )
    return f"{cut}{chr(10) * bool(cut)}{facts.before}{facts.overview}{seen}{facts.after}"


def _squares(grid: Grid, width: int, height: int) -> tuple[int, int]:
    """Rows and columns of an image scaled to whole squares, with its area within bounds."""
    if max(width, height) > _MOST_ASPECT * min(width, height):
        raise InvalidArgument(
            f"the image has {width} x {height} pixels; one edge may be at most {_MOST_ASPECT} times the other"
        )
    edge = grid.edge
    rows, columns = round(height / edge), round(width / edge)
    if rows * columns * edge**2 > grid.most_pixels:
        shrink = math.sqrt(height * width / grid.most_pixels)
        return tuple(max(1, math.floor(length / shrink / edge)) for length in (height, width))  # type: ignore[return-value] # two
    if rows * columns * edge**2 < grid.least_pixels:
        stretch = math.sqrt(grid.least_pixels / (height * width))
        return tuple(math.ceil(length * stretch / edge) for length in (height, width))  # type: ignore[return-value] # two
    return rows, columns
