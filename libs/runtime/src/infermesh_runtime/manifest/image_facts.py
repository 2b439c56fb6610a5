"""What a manifest says of a model that looks at images: how many tokens an image becomes, and which."""

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Tiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="tiles"):
    """An image is scaled, cut into square tiles, and comes again as a whole after them (Idefics3, SmolVLM)."""

    longest_edge: Positive
    """Length to which the longer edge is scaled first, in pixels."""
    edge: Positive
    """Edge of a tile, in pixels."""
    tokens: Positive
    """Tokens of each tile."""
    splits: bool = True
    """Whether images are cut at all."""


class Grid(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="grid"):
    """An image keeps its shape, and each square of it is a token (Qwen2.5-VL)."""

    edge: Positive
    """Edge of the square of one token, in pixels."""
    least_pixels: Positive
    """Smaller images are scaled up to this area, larger ones down to the next."""
    most_pixels: Positive


class Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="whole"):
    """Every image becomes the same number of tokens (Gemma 3)."""

    tokens: Positive


class ImageFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model reads images."""

    layout: Tiles | Grid | Whole
    written: Annotated[str, msgspec.Meta(min_length=1)]
    """The token that the chat template writes for an image."""
    seen: Annotated[str, msgspec.Meta(min_length=1)]
    """The token whose embeddings are replaced by what the model sees."""
    before: str = ""
    """What comes before these tokens in place of the written one; with tiles, before each tile."""
    after: str = ""
    """What comes after the last of them."""
    overview: str = ""
    """With tiles, what marks the image as a whole."""
