"""Puts images into a rendered prompt: the tokens that stand for each, and where what the model sees of it goes."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Self

from tokenizers import Tokenizer

from infermesh_engine.requests.image import PromptImage
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.image_facts import ImageFacts
from infermesh_worker.images.decoding import measure
from infermesh_worker.images.layout import Placeholder, placeholder


@dataclass(frozen=True, slots=True)
class MeasuredImage:
    """An image of a conversation, and what stands for it in the prompt."""

    data: bytes
    closely: bool
    digest: bytes
    placeholder: Placeholder
    field: str
    """The part of the request that it came in."""


@dataclass(frozen=True, slots=True)
class ImageReader:
    """How the front of a worker reads images for one model."""

    facts: ImageFacts
    seen_id: int
    """Id of the token whose embeddings are replaced by what the model sees."""

    @classmethod
    def bind(cls, facts: ImageFacts, tokenizer: Tokenizer, model: str) -> Self:
        """Raises FailedPrecondition when the tokenizer lacks a token that images need."""
        ids = {token: tokenizer.token_to_id(token) for token in (facts.written, facts.seen)}
        if missing := [token for token, token_id in ids.items() if token_id is None]:
            raise FailedPrecondition(f"the tokenizer of model {model!r} has no token {missing[0]!r}, which images need")
        return cls(facts, ids[facts.seen] or 0)

    def measure(self, data: bytes, *, closely: bool, field: str = "") -> MeasuredImage:
        """Reads an image's header. Raises InvalidArgument when it cannot be read, or the model cannot take it."""
        stands = placeholder(self.facts, *measure(data), closely=closely)
        digest = blake2b(data, digest_size=16, person=b"closely" if closely else b"whole").digest()
        return MeasuredImage(data, closely, digest, stands, field)

    def expand(self, prompt: Rendered, images: Sequence[MeasuredImage], controls: Iterable[str]) -> Rendered:
        """The prompt with all tokens of the images. Raises InvalidArgument if the template wrote another number of
        images. `controls`: the model's control tokens.
        """
        written, stands = self.facts.written, [image.placeholder.text for image in images]
        if len(prompt.pieces) == 1:
            parts = prompt.text.split(written)
            _check_count(len(parts) - 1, len(images))
            texts = (text for pair in zip(parts, [*stands, ""], strict=True) for text in pair)
            return Rendered(("".join(texts),))
        _check_count(prompt.pieces[1::2].count(written), len(images))
        cut = re.compile("(" + "|".join(map(re.escape, sorted(controls, key=len, reverse=True))) + ")")
        left = iter(stands)
        pieces = [prompt.pieces[0]]
        for control, text in zip(prompt.pieces[1::2], prompt.pieces[2::2], strict=True):
            first, *others = cut.split(next(left)) if control == written else ["", control, ""]
            pieces[-1] += first
            pieces += others
            pieces[-1] += text
        return Rendered(tuple(pieces))

    def place(self, token_ids: Sequence[int], images: Sequence[MeasuredImage]) -> tuple[PromptImage, ...]:
        """The images with their positions in a prompt. Raises InvalidArgument when it has not all of their tokens."""
        positions = [index for index, token_id in enumerate(token_ids) if token_id == self.seen_id]
        if len(positions) != sum(image.placeholder.tokens for image in images):
            raise InvalidArgument("the prompt has other tokens for its images than it should have")
        placed, done = [], 0
        for image in images:
            stands = image.placeholder
            own = positions[done : done + stands.tokens]
            done += stands.tokens
            spans = tuple(_spans(own))
            placed.append(
                PromptImage(
                    data=image.data,
                    digest=image.digest,
                    spans=spans,
                    grid=stands.grid,
                    closely=image.closely,
                    field=image.field,
                )
            )
        return tuple(placed)


def _check_count(found: int, wanted: int) -> None:
    if found != wanted:
        raise InvalidArgument(
            f"the model's chat template makes {found} images of the {wanted} in this conversation: it leaves them out "
            "of messages with these roles, or takes no images at all"
        )


def _spans(positions: Sequence[int]) -> Iterable[tuple[int, int]]:
    begin = positions[0]
    for before, after in zip(positions, [*positions[1:], -1], strict=True):
        if after != before + 1:
            yield begin, before + 1
            begin = after
