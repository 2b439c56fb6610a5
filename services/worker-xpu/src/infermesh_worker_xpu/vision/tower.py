"""The vision model of a vision-language model: image files to pixels, and pixels to features."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.runners.images import HeldImage
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.image_facts import Grid, ImageFacts, Tiles, Whole
from infermesh_worker.images.decoding import decode
from infermesh_worker.images.prepared import PreparedImage

_READ = ("pixel_values", "pixel_attention_mask", "image_grid_thw")
"""What the vision models read of what transformers' image processors give."""


@dataclass(frozen=True, slots=True)
class VisionTower:
    """The vision model, and how images are prepared for it. `prepare` may be called in another thread."""

    model: PreTrainedModel
    facts: ImageFacts
    processor: Any
    """transformers' image processor on Pillow and numpy, whose numbers do not depend on the packages installed."""
    lock: threading.Lock
    """Held while an image is prepared: transformers does not promise that a processor may be shared."""

    @property
    def sees_itself(self) -> bool:
        """Whether the tokens of an image see each other, also those after them."""
        return isinstance(self.facts.layout, Whole)

    @property
    def has_rope(self) -> bool:
        """Whether the rotary positions of an image's tokens follow its rows and columns."""
        return isinstance(self.facts.layout, Grid)

    def prepare(self, image: PromptImage) -> PreparedImage:
        """Decodes an image and scales its pixels. Raises InvalidArgument when the file cannot be read."""
        tensors = self._prepare(decode(image.data), closely=image.closely)
        wanted = sum(end - begin for begin, end in image.spans)
        if (tokens := self._tokens(tensors)) != wanted:
            raise InvalidArgument(f"the image has {tokens} features, but the prompt has places for {wanted}")
        return PreparedImage(tensors, sum(tensor.nbytes for tensor in tensors.values()))

    @torch.inference_mode()
    def features(self, held: HeldImage) -> Tensor:
        """[tokens, hidden], on the model's device. They are computed once, each image alone, and kept in `held`."""
        if held.features is None:
            prepared = held.pixels if held.pixels is not None else self.prepare(held.image)
            held.pixels = None  # a sequence that is preempted prepares it again
            held.features = self._look(prepared.tensors)
        found: Tensor = held.features
        return found

    @torch.inference_mode()
    def rehearse(self, context_length: int) -> int:
        """Looks at an image of the largest size that fits in a context, so that the memory for it is known.

        Returns how many features it has.
        """
        match self.facts.layout:
            case Grid(edge=edge, most_pixels=most):
                side = int(min(most, context_length * edge**2) ** 0.5)
            case Tiles(longest_edge=longest):
                side = longest
            case Whole():
                side = 1
        return len(self._look(self._prepare(Image.new("RGB", (side, side)), closely=True)))

    def _prepare(self, pixels: Image.Image, *, closely: bool) -> dict[str, Tensor]:
        options: dict[str, bool] = {}
        match self.facts.layout:
            case Tiles(splits=splits):
                options["do_image_splitting"] = splits and closely
            case Whole():
                options["do_pan_and_scan"] = False
        try:
            with self.lock:
                found = self.processor(images=[pixels], return_tensors="pt", **options)
        except (ValueError, TypeError, ArithmeticError, OSError) as error:
            raise InvalidArgument(f"the image cannot be prepared for the model: {error}") from error
        tensors = {name: found[name] for name in _READ if name in found}
        tensors["pixel_values"] = tensors["pixel_values"].to(self.model.dtype)
        return tensors

    def _look(self, tensors: dict[str, Tensor]) -> Tensor:
        on_device = {name: tensor.to(self.model.device) for name, tensor in tensors.items()}
        look: Any = self.model.get_image_features
        output = look(**on_device, return_dict=True).pooler_output
        joined = output if isinstance(output, Tensor) else torch.cat(tuple(output))
        return joined.reshape(-1, joined.shape[-1])

    def _tokens(self, tensors: dict[str, Tensor]) -> int:
        """How many features the pixels will give."""
        match self.facts.layout:
            case Tiles(tokens=each):
                return each * tensors["pixel_values"].shape[1]
            case Grid(edge=edge):
                patch = int(self.processor.patch_size)
                return int(tensors["image_grid_thw"].prod()) * patch**2 // edge**2
            case Whole(tokens=count):
                return count


def open_tower(model: PreTrainedModel, folder: Path, facts: ImageFacts, *, max_batched_tokens: int) -> VisionTower:
    """The vision model of a folder that has been loaded. Raises FailedPrecondition when its images cannot be read.

    `max_batched_tokens`: most tokens of a step.
    """
    if isinstance(facts.layout, Whole) and facts.layout.tokens > max_batched_tokens:
        raise FailedPrecondition(
            f"An image of this model has {facts.layout.tokens} tokens, which must be computed in one step, but "
            f"INFERMESH_MAX_BATCHED_TOKENS is {max_batched_tokens}. Raise it.",
            reason="MODEL_NOT_SUPPORTED",
        )
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            str(folder), backend="pil", local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, ImportError, TypeError, AttributeError) as error:
        raise FailedPrecondition(
            f"transformers {transformers.__version__} cannot prepare images for {folder}: {error}",
            reason="MODEL_NOT_SUPPORTED",
        ) from error
    return VisionTower(model, facts, processor, threading.Lock())
