"""A model whose tokenizer and chat template the front has read, ready to be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from infermesh_engine.sampling.grammars.control_ids import control_ids
from infermesh_runtime.chat_templates.control_tokens import Rendered
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.model_kind import GENERATE, BatchLimits, ModelKind, TensorSpec
from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_runtime.manifest.text_encoder import EncoderFacts
from infermesh_worker.images.reader import ImageReader
from infermesh_worker.models.apart_tokenizer import ApartTokenizer
from infermesh_worker.models.model_folder import ModelFolder
from infermesh_worker.models.templates.bounded_template import BoundedTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """What the front knows of a model."""

    name: str
    tokenizer: Tokenizer
    """One without tokens for a model that reads no text."""
    chat_template: BoundedTemplate | None
    context_length: int
    """In tokens. Once the model is loaded, the runner's own figure applies."""
    size_bytes: int
    created: datetime
    generation: GenerationDefaults | None = None
    """How its answers are made where a request does not say; None: by the contract's defaults."""
    kind: ModelKind = GENERATE
    inputs: tuple[TensorSpec, ...] = ()
    """The tensors that it takes, as its import found them; what it says itself once it is loaded counts more."""
    outputs: tuple[TensorSpec, ...] = ()
    batching: BatchLimits | None = None
    encoder: EncoderFacts | None = None
    """How it reads texts, if its kind is embed or rerank."""
    voices: tuple[str, ...] = ()
    """The voices that it speaks with, its default first."""
    images: ImageReader | None = None
    """How it reads images; None if it takes none here."""
    why_no_images: str = "this model takes no images"
    """What a request with an image is told where it takes none."""
    build_options: Mapping[str, Any] = field(default_factory=dict)
    """Plain values that the engine process builds the model with."""
    longest_token_chars: int = field(init=False)
    """Length of the longest token in the vocabulary, in characters."""
    special_ids: Mapping[str, int] = field(init=False, repr=False)
    """Ids of the special tokens, by the text that stands for them."""
    control_ids: Mapping[str, int] = field(init=False, repr=False)
    """Ids of the tokens that grammars must name, because no text in a grammar matches them."""
    _apart: ApartTokenizer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        added = self.tokenizer.get_added_tokens_decoder().items()
        object.__setattr__(self, "special_ids", {token.content: i for i, token in added if token.special})
        object.__setattr__(self, "control_ids", control_ids(self.tokenizer))
        controls = self.chat_template.control_tokens if self.chat_template is not None else frozenset()
        object.__setattr__(self, "_apart", ApartTokenizer(self.tokenizer, controls))
        object.__setattr__(self, "longest_token_chars", max(map(len, self.tokenizer.get_vocab()), default=1))

    @classmethod
    def from_folder(cls, folder: ModelFolder, build_options: Mapping[str, Any], *, takes_images: bool = False) -> Self:
        """Opens a model folder. Raises FailedPrecondition when its tokenizer or chat template cannot be used.

        `takes_images`: whether this kind of worker lets models look at images.
        """
        manifest = folder.manifest
        reads_text = manifest.kind == GENERATE or folder.tokenizer_path.exists()
        tokenizer = folder.load_tokenizer() if reads_text else Tokenizer(WordLevel())
        if manifest.encoder is not None:  # many such tokenizers cut texts, or fill them up, by themselves
            tokenizer.no_truncation()
            tokenizer.no_padding()
        template, facts = folder.chat_template(), manifest.images
        return cls(
            name=manifest.name,
            tokenizer=tokenizer,
            chat_template=_bind(template, tokenizer, manifest) if template is not None else None,
            context_length=manifest.context_length,
            size_bytes=manifest.size_bytes,
            created=manifest.created,
            generation=manifest.generation,
            kind=manifest.kind,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            batching=manifest.batching,
            encoder=manifest.encoder,
            voices=manifest.voices,
            images=ImageReader.bind(facts, tokenizer, manifest.name) if facts is not None and takes_images else None,
            why_no_images=f"this model takes {'no images' if facts is None else 'images on worker-xpu alone'}",
            build_options=build_options,
        )

    def encode(self, text: Rendered, *, add_special_tokens: bool) -> tuple[int, ...]:
        """The ids of a text. Blocks for a second per megabyte, but does not hold up other threads."""
        if len(text.pieces) == 1:
            # `encode` holds the GIL and would stop every stream; encoding a batch of one does not.
            (encoded,) = self.tokenizer.encode_batch_fast([text.text], add_special_tokens=add_special_tokens)
            return tuple(encoded.ids)
        return self._apart.encode(text.pieces)

    @property
    def known_style(self) -> AnswerStyle | None:
        """How it writes tool calls and reasoning; None: not known before its first conversation."""
        return self.chat_template.style if self.chat_template is not None else None

    async def answer_style(self) -> AnswerStyle:
        """How it writes tool calls and reasoning, which its first conversation finds if its manifest does not say."""
        return await self.require_chat_template().find_style()

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


def bind_template(
    source: str, tokenizer: Tokenizer, *, model: str, special_tokens: Mapping[str, str]
) -> BoundedTemplate:
    """The template of a model with this tokenizer. Raises FailedPrecondition when it has a syntax error."""
    added = tokenizer.get_added_tokens_decoder().values()
    return BoundedTemplate(
        source,
        model=model,
        special_tokens=special_tokens,
        control_tokens=[token.content for token in added if token.special],
        added_tokens=[token.content for token in added if not token.special],
    )


def _bind(source: str, tokenizer: Tokenizer, manifest: Manifest) -> BoundedTemplate:
    special_tokens = _special_tokens(manifest, tokenizer)
    template = bind_template(source, tokenizer, model=manifest.name, special_tokens=special_tokens)
    template.style = manifest.answer_style
    return template


def _special_tokens(manifest: Manifest, tokenizer: Tokenizer) -> Mapping[str, str]:
    """The special tokens by name; of a model that was imported before manifests had them, what its ids say."""
    if manifest.special_tokens is not None:
        return manifest.special_tokens
    bos = tokenizer.id_to_token(manifest.bos_token_id) if manifest.bos_token_id is not None else None
    eos = tokenizer.id_to_token(manifest.eos_token_ids[0]) if manifest.eos_token_ids else None
    return {"bos_token": bos or "", "eos_token": eos or ""}
