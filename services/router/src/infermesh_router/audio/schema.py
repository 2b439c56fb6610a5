"""What requests about speech may contain: every field is honoured, named as ignored, or refused by name."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import NonEmpty, Strict, UnsupportedList, only
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_router.texts.schema import Hints

Priority = Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]
"""As in vLLM, smaller is served earlier; in the gRPC contract it is the other way round."""
TextFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
SoundFormat = Literal["mp3", "opus", "flac", "wav", "pcm"]
MOST_INPUT_CHARS = 4096
_MOST_SEED = 2**63 - 1


class TranscriptionForm(BaseModel):
    """The fields of a form beside its file. Their values are text, so they are converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    HINTS: ClassVar[Hints] = {"chunking_strategy": (), "user": (), "vad_filter": ()}

    model: str = ""
    """Empty: the only model that transcribes."""
    language: str | None = None
    prompt: str | None = None
    response_format: TextFormat = "json"
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    timestamp_granularities: list[Literal["word", "segment"]] = []
    stream: bool = False
    seed: Annotated[int, Field(ge=0, le=_MOST_SEED)] | None = None
    device: str | None = None
    priority: Priority | None = None
    include: UnsupportedList = None
    keywords: UnsupportedList = None
    languages: UnsupportedList = None
    known_speaker_names: UnsupportedList = None
    known_speaker_references: UnsupportedList = None
    chunking_strategy: Any = None
    """Has no effect: the model cuts long sounds by itself."""
    vad_filter: Any = None
    user: Any = None


LISTS = frozenset(
    {
        "timestamp_granularities",
        "include",
        "keywords",
        "languages",
        "known_speaker_names",
        "known_speaker_references",
    }
)
"""The fields of a form that may come several times, with or without "[]" behind their names."""


class TranslationForm(TranscriptionForm):
    """The same for a translation, whose language always is English."""


class VoiceObject(Strict):
    """A voice as an object."""

    id: NonEmpty


def _string_or_object(value: object) -> str:
    return "<object>" if isinstance(value, dict) else "<string>"


class SpeechBody(Strict):
    """The body of /v1/audio/speech."""

    HINTS: ClassVar[Hints] = {"instructions": (), "stream": (True, False), "user": ()}

    model: str = ""
    """Empty: the only model that speaks."""
    input: Annotated[str, Field(min_length=1, max_length=MOST_INPUT_CHARS)]
    voice: (
        Annotated[
            Annotated[str, Tag("<string>")] | Annotated[VoiceObject, Tag("<object>")], Discriminator(_string_or_object)
        ]
        | None
    ) = None
    """Unset: the model's first."""
    response_format: Annotated[SoundFormat, only("mp3", "opus", "flac", "wav", "pcm")] | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    stream_format: Literal["audio", "sse"] | None = None
    language: str | None = None
    device: str | None = None
    priority: Priority | None = None
    instructions: str | None = None
    """Has no effect: the models read the text only."""
    stream: bool | None = None
    """Has no effect: sound always comes as it is made."""
    user: str | None = None


AUDIO_BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {"CreateSpeech": (SpeechBody,)}
"""The schemas of the JSON bodies that calls of OpenAIService take, for /openapi.json."""
AUDIO_FORMS: Mapping[str, type[BaseModel]] = {
    "CreateTranscription": TranscriptionForm,
    "CreateTranslation": TranslationForm,
}
"""The same for forms, which also have a `file`."""
