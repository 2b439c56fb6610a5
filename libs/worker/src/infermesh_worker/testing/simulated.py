"""A worker without a device, for tests of routers and policies.

`python -m infermesh_worker.testing.simulated` runs it: the simulated runner in real time, and a tokenizer with one
token for each byte.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field
from pydantic_settings import NoDecode

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime.errors import ModelNotFound
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.image_facts import ImageFacts, Whole
from infermesh_runtime.manifest.model_kind import EMBED, GENERATE, INFER, RERANK, SPEAK, TRANSCRIBE, ModelKind
from infermesh_runtime.manifest.text_encoder import EncoderFacts
from infermesh_runtime.settings import CommaList, load_or_exit
from infermesh_worker.backend import NO_MODEL, Backend
from infermesh_worker.images.reader import ImageReader
from infermesh_worker.main import serve
from infermesh_worker.models.catalog import CatalogEntry
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel, bind_template
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.testing.simulated_encoder import DIMENSIONS
from infermesh_worker.testing.simulated_engine import END_OF_TEXT, VOCAB_SIZE, build_tokenizer
from infermesh_worker.testing.simulated_speech import VOICES

BLOCK_SIZE = 32

_CREATED = datetime(2026, 1, 1, tzinfo=UTC)
"""When every simulated model was made."""
_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""
_IMAGE_TEMPLATE = f"""\
{{%- for message in messages -%}}
{{{{ '<|im_start|>' + message['role'] + '\\n' }}}}
{{%- for part in message['content'] -%}}
{{{{ '{END_OF_TEXT}' if part['type'] == 'image' else part['text'] }}}}
{{%- endfor -%}}
{{{{ '<|im_end|>\\n' }}}}
{{%- endfor -%}}
{{%- if add_generation_prompt -%}}{{{{ '<|im_start|>assistant\\n' }}}}{{%- endif -%}}
"""
_IMAGES = ImageFacts(layout=Whole(tokens=4), written=END_OF_TEXT, seen=END_OF_TEXT)
"""An image is four end-of-text tokens, so that the vocabulary stays as it is."""


def _parse_models(value: object) -> object:
    """Splits "a:1GiB,b:2000" into ((a, 1GiB), (b, 2000)); pydantic then checks names and sizes."""
    if not isinstance(value, str):
        return value
    return tuple(tuple(part.strip().rpartition(":")[::2]) for part in value.split(",") if part.strip())


ModelSizes = Annotated[tuple[tuple[str, ByteSize], ...], NoDecode, BeforeValidator(_parse_models)]


class SimulatedSettings(WorkerSettings):
    """Settings of the simulated worker and its device."""

    model: str = Field(
        "simulated",
        min_length=1,
        description="Name of the model to load at the start. none: start without a model.",
    )
    sim_device: DeviceKind = Field("cpu", description="Kind of the simulated device: cpu, xpu or cuda.")
    sim_models: ModelSizes = Field(
        (), description="Models that can be loaded and the memory that each takes, as name:size,..., e.g. a:6GiB."
    )
    sim_memory_bytes: ByteSize = Field(ByteSize(16 << 30), ge=1, description="Memory of the device, e.g. 16GiB.")
    sim_load_s: float = Field(0.0, ge=0, le=3600, description="How long loading a model takes, in seconds.")
    sim_prefill_tokens_per_s: float = Field(10_000.0, gt=0, description="Prefill speed, in tokens per second.")
    sim_itl_s: float = Field(0.007, ge=0, description="Base duration of a decode step, in seconds.")
    sim_slope_s: float = Field(
        0.0005, ge=0, description="Duration that each sequence adds to a decode step, in seconds."
    )
    sim_kv_tokens: int = Field(32_768, ge=BLOCK_SIZE, description="Size of the KV cache, in tokens.")
    sim_context_length: int = Field(8192, ge=2, description="Context length: prompt and output together, in tokens.")
    sim_chat_template: str = Field(_CHAT_TEMPLATE, description="Chat template of every model, in Jinja.")
    sim_temperature: float | None = Field(
        None, ge=0, le=2, description="Temperature that the makers of every model want. Default: they do not say."
    )
    sim_tensor_models: CommaList = Field(
        (), description="Which models, also of sim_models, run on tensors (simulated_executor), separated by commas."
    )
    sim_embedders: CommaList = Field(
        (), description="Which models make vectors of texts (simulated_encoder), separated by commas."
    )
    sim_rerankers: CommaList = Field(
        (), description="Which models score texts (simulated_encoder), separated by commas."
    )
    sim_batch_size: int = Field(8, ge=1, description="Most rows of tensors in one batch.")
    sim_batch_delay_ms: float = Field(0.0, ge=0, description="How long tensors wait for others, in milliseconds.")
    sim_batch_s: float = Field(0.001, ge=0, description="Duration of a batch of tensors or texts, in seconds.")
    sim_row_s: float = Field(0.0, ge=0, description="Duration that each row adds to a batch of tensors, in seconds.")
    sim_parallel: int = Field(1, ge=1, description="How many batches of tensors run at the same time.")
    sim_transcribers: CommaList = Field((), description="Which models turn speech into text, separated by commas.")
    sim_speakers: CommaList = Field((), description="Which models turn text into speech, separated by commas.")
    sim_part_s: float = Field(0.01, ge=0, description="Time for each segment of text or piece of sound, in seconds.")
    sim_segments: int = Field(5, ge=0, description="How many segments the text of speech has.")
    sim_images: bool = Field(
        False, description="Whether every model takes images; then sim_chat_template must write <|endoftext|> for one."
    )
    sim_checks_drafts: bool = Field(False, description="Whether its steps can check tokens that are guessed ahead.")
    sim_eos: bool = Field(False, description="Whether sampling the end-of-text token ends a choice.")

    def kind(self, name: str) -> ModelKind:
        """What a model does."""
        listed = {
            INFER: self.sim_tensor_models,
            EMBED: self.sim_embedders,
            RERANK: self.sim_rerankers,
            TRANSCRIBE: self.sim_transcribers,
            SPEAK: self.sim_speakers,
        }
        return next((kind for kind, names in listed.items() if name in names), GENERATE)

    def voices(self, name: str) -> tuple[str, ...]:
        """The voices that a model has."""
        return VOICES if self.kind(name) == SPEAK else ()

    @property
    def generation(self) -> GenerationDefaults | None:
        """How the makers of every model want answers sampled."""
        return None if self.sim_temperature is None else GenerationDefaults(temperature=self.sim_temperature)

    def model_bytes(self, name: str) -> int:
        """Memory that a model takes; 0 for one that is not in sim_models."""
        return next((int(size) for known, size in self.sim_models if known == name), 0)


class SimulatedCatalog:
    """The models that the settings list."""

    def __init__(self, settings: SimulatedSettings) -> None:
        self._settings = settings

    def entries(self) -> Mapping[str, CatalogEntry]:
        """All models by name, including the one that is loaded at the start."""
        settings = self._settings
        sizes = {name: int(size) for name, size in settings.sim_models}
        if settings.model != NO_MODEL:
            sizes.setdefault(settings.model, 0)
        return {
            name: CatalogEntry(
                name=name,
                size_bytes=size,
                context_length=settings.sim_context_length,
                footprint=Footprint(base_bytes=size),
                created=_CREATED,
                has_chat_template=True,
                generation=settings.generation,
                kind=settings.kind(name),
                voices=settings.voices(name),
                takes_images=settings.sim_images,
            )
            for name, size in sizes.items()
        }

    def open(self, name: str) -> OpenedModel:
        """Raises ModelNotFound."""
        if name not in self.entries():
            raise ModelNotFound(f"There is no simulated model {name!r}.", metadata={"model": name})
        return opened_model(self._settings, name)


def opened_model(settings: SimulatedSettings, name: str = "") -> OpenedModel:
    """A model as the front opens it; without a name, the one of the settings."""
    name = name or settings.model
    tokenizer, special_tokens = build_tokenizer(), {"eos_token": END_OF_TEXT}
    template = settings.sim_chat_template
    if settings.sim_images and template == _CHAT_TEMPLATE:
        template = _IMAGE_TEMPLATE
    return OpenedModel(
        name=name,
        tokenizer=tokenizer,
        chat_template=bind_template(template, tokenizer, model=name, special_tokens=special_tokens),
        images=ImageReader.bind(_IMAGES, tokenizer, name) if settings.sim_images else None,
        context_length=settings.sim_context_length,
        size_bytes=settings.model_bytes(name),
        created=_CREATED,
        build_options=build_options(settings, name),
        generation=settings.generation,
        kind=settings.kind(name),
        encoder=EncoderFacts(dimensions=DIMENSIONS) if settings.kind(name) == EMBED else None,
        voices=settings.voices(name),
    )


def build_options(settings: SimulatedSettings, name: str = "") -> dict[str, Any]:
    """The options of `build` for a model; without a name, for the one of the settings."""
    size_bytes = settings.model_bytes(name or settings.model)
    runner = {
        "prefill_tokens_per_s": settings.sim_prefill_tokens_per_s,
        "checks_drafts": settings.sim_checks_drafts,
        "base_itl_s": settings.sim_itl_s,
        "slope_itl_s": settings.sim_slope_s,
        "num_blocks": settings.sim_kv_tokens // BLOCK_SIZE,
        "block_size": BLOCK_SIZE,
        "vocab_size": VOCAB_SIZE,
        "context_length": settings.sim_context_length,
        "device_kind": settings.sim_device,
        "memory_total_bytes": int(settings.sim_memory_bytes),
        "weights_bytes": size_bytes,
        "memory_bytes": size_bytes or 1,
    }
    options: dict[str, Any] = {
        "runner": runner,
        "eos": settings.sim_eos,
        "images": settings.sim_images,
        "load_s": settings.sim_load_s,
    }
    match settings.kind(name or settings.model):
        case "infer":
            options["executor"] = executor_options(settings)
        case "embed" | "rerank" as kind:
            options["encoder"] = encoder_options(settings, kind)
        case "transcribe" | "speak" as kind:
            options["speech"] = speech_options(settings, kind)
    return options


def executor_options(settings: SimulatedSettings) -> dict[str, Any]:
    """The options of a model of tensors."""
    return {
        "device_kind": settings.sim_device,
        "memory_bytes": int(settings.sim_memory_bytes),
        "batch_s": settings.sim_batch_s,
        "row_s": settings.sim_row_s,
        "parallel": settings.sim_parallel,
        "limits": {"max_size": settings.sim_batch_size, "max_delay_ms": settings.sim_batch_delay_ms},
    }


def encoder_options(settings: SimulatedSettings, kind: ModelKind) -> dict[str, Any]:
    """The options of a model that embeds or scores texts."""
    return {
        "kind": kind,
        "device_kind": settings.sim_device,
        "memory_bytes": int(settings.sim_memory_bytes),
        "context_length": settings.sim_context_length,
        "batch_s": settings.sim_batch_s,
    }


def speech_options(settings: SimulatedSettings, kind: ModelKind) -> dict[str, Any]:
    """The options of a model that transcribes or speaks."""
    return {
        "kind": kind,
        "device_kind": settings.sim_device,
        "memory_bytes": int(settings.sim_memory_bytes),
        "part_s": settings.sim_part_s,
        "segments": settings.sim_segments,
        "parallel": settings.sim_parallel,
    }


def backend(settings: SimulatedSettings) -> Backend:
    """The simulated worker's backend."""
    catalog = SimulatedCatalog(settings)
    return Backend(
        build="infermesh_worker.testing.simulated_engine:build",
        probe="infermesh_worker.testing.simulated_probe:probe",
        options=build_options(settings),
        catalog=catalog,
        open_home=lambda: catalog.open(settings.model) if settings.model != NO_MODEL else None,
        margin=0.0,
        kinds=tuple({GENERATE: None} | {settings.kind(name): None for name in catalog.entries()}),
    )


def main() -> int:
    """Runs the worker until it is told to stop; returns the process's exit status."""
    settings = load_or_exit(SimulatedSettings)
    return serve(settings, backend(settings))


if __name__ == "__main__":
    sys.exit(main())
