"""Builds a model of kind speak from its folder, for any worker that can run its graph."""

from collections.abc import Callable
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition, InvalidArgument
from infermesh_runtime.manifest.model_kind import SPEAK
from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.speaking.espeak import Espeak
from infermesh_worker.speaking.executor import Phonemizer, SpeakingExecutor
from infermesh_worker.speaking.interface import Speaker
from infermesh_worker.speaking.kokoro_folder import KokoroFolder, read_vocabulary, read_voices
from infermesh_worker.tensor_models.files import FOLDER


def build_speaking(
    folder: Path, manifest: Manifest, load: Callable[[Path], Speaker], phonemizer: Callable[[], Phonemizer] = Espeak
) -> BuiltExecutor:
    """Builds the model. `load` opens a graph; `phonemizer` makes what turns text into phonemes.

    Raises FailedPrecondition if files do not fit the manifest, or phonemes cannot be written here.
    """
    phonemes = phonemizer()
    try:
        files = KokoroFolder.find(folder / FOLDER)
        voices, vocabulary = read_voices(files.voices), read_vocabulary(files.vocabulary)
        spoken = {name: voices[name] for name in manifest.voices}
    except (InvalidArgument, KeyError) as error:
        raise FailedPrecondition(f"{folder} is not as it was imported: {error}") from error
    executor = SpeakingExecutor(load(files.graph), phonemes, spoken, vocabulary)
    return BuiltExecutor(executor=executor, kind=SPEAK, name=manifest.name)
