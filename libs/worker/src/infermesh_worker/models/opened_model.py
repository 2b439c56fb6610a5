"""A model whose tokenizer and chat template the front has read, ready to be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from tokenizers import Tokenizer

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.bounded_template import BoundedTemplate
from infermesh_worker.models.model_folder import ModelFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """What the front knows of a model."""

    name: str
    tokenizer: Tokenizer
    chat_template: BoundedTemplate | None
    context_length: int
    """In tokens. Once the model is loaded, the runner's own figure applies."""
    size_bytes: int
    created: datetime
    build_options: Mapping[str, Any] = field(default_factory=dict)
    """Plain values that the engine process builds the model with."""
    longest_token_chars: int = field(init=False)
    """Length of the longest token in the vocabulary, in characters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest_token_chars", max(map(len, self.tokenizer.get_vocab()), default=1))

    @classmethod
    def from_folder(cls, folder: ModelFolder, build_options: Mapping[str, Any]) -> Self:
        """Opens a model folder. Raises FailedPrecondition when its tokenizer or chat template cannot be used."""
        manifest, tokenizer = folder.manifest, folder.load_tokenizer()
        template = folder.chat_template()
        return cls(
            name=manifest.name,
            tokenizer=tokenizer,
            chat_template=_bind(template, tokenizer, folder) if template is not None else None,
            context_length=manifest.context_length,
            size_bytes=manifest.size_bytes,
            created=manifest.created,
            build_options=build_options,
        )

    def require_chat_template(self) -> BoundedTemplate:
        """The chat template. Raises FailedPrecondition when the model has none."""
        if self.chat_template is None:
            raise FailedPrecondition(
                f"Model {self.name!r} has no chat template, so it is a base model. "
                "Ask it to continue a text instead, as /v1/completions does.",
                reason="NO_CHAT_TEMPLATE",
                fields={"chat": "the model has no chat template"},
            )
        return self.chat_template

    def close(self) -> None:
        """Ends what was started for the model; it may be used again."""
        if self.chat_template is not None:
            self.chat_template.close()


def _bind(source: str, tokenizer: Tokenizer, folder: ModelFolder) -> BoundedTemplate:
    manifest = folder.manifest
    bos = tokenizer.id_to_token(manifest.bos_token_id) if manifest.bos_token_id is not None else None
    eos = tokenizer.id_to_token(manifest.eos_token_ids[0]) if manifest.eos_token_ids else None
    return BoundedTemplate(source, model=manifest.name, bos_token=bos or "", eos_token=eos or "")
