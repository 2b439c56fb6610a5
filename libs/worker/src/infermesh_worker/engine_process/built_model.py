"""A model as an engine process holds it: its runner, tokenizer and end-of-sequence tokens."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.runners.runner import ModelRunner
from infermesh_worker.images.prepared import PreparedImage


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """What a worker's build function returns in the engine process."""

    runner: ModelRunner
    tokenizer: Tokenizer
    eos_token_ids: frozenset[int]
    name: str = ""
    """The model's name in requests."""
    folder: Path | None = None
    """Where its files are, to say which of them is damaged; None: it has none."""
    prepare_image: Callable[[PromptImage], PreparedImage] | None = None
    """Decodes an image for the runner, in any thread; raises InvalidArgument. None: it takes no images."""
