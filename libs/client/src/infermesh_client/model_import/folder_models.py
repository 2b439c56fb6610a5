"""Says which room imports a folder of a model that does not generate text."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infermesh_client.model_import.source import FolderModel, SpeechModel, TextModel, VoiceModel
from infermesh_client.model_import.speech_models.importing import examine_speech_model, import_speech_model
from infermesh_client.model_import.text_models.importing import examine_text_model, import_text_model
from infermesh_client.model_import.voice_models.importing import examine_voice_model, import_voice_model
from infermesh_runtime.manifest.model_manifest import Manifest


@dataclass(frozen=True, slots=True)
class Room:
    """How a kind of folder is imported, and checked without being imported."""

    import_model: Callable[..., Manifest]
    """(path, target, view, options, *, force)"""
    examine_model: Callable[..., Sequence[str]]
    """(path, root, view, options)"""


ROOMS: Mapping[type[FolderModel], Room] = {
    TextModel: Room(import_text_model, examine_text_model),
    SpeechModel: Room(import_speech_model, examine_speech_model),
    VoiceModel: Room(import_voice_model, examine_voice_model),
}
