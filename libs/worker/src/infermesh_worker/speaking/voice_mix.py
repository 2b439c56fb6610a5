"""The voices that a request names, and their styles: of several joined by "+", the mean."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array

_JOINED = "+"


def voice_named(name: str, voices: Collection[str]) -> str | None:
    """The voice of this name, or the only one that is called so after its prefix; None: there is none.

    So OpenAI's names are taken, after which some of Kokoro's are called: "alloy" is "af_alloy".
    """
    if name in voices:
        return name
    alike = [voice for voice in voices if voice.partition("_")[2] == name]
    return alike[0] if len(alike) == 1 else None


def voices_of(wanted: str, voices: Collection[str]) -> Sequence[str]:
    """The voices that a request names; the first of all if it names none. Raises InvalidArgument for an unknown one."""
    if not wanted:
        return [next(iter(voices))]
    found: list[str] = []
    for name in wanted.split(_JOINED):
        voice = voice_named(name.strip(), voices)
        if voice is None:
            problem = f"there is no voice {name!r}; the model has {', '.join(voices)}"
            raise InvalidArgument(f"voice: {problem}", fields={"voice": problem})
        found.append(voice)
    return found


def mean_styles(names: Sequence[str], voices: Mapping[str, Array]) -> Array:
    """FP32 [510, 256]: a style for each number of phonemes."""
    if len(names) == 1:
        return voices[names[0]]
    found: Array = np.stack([voices[name] for name in names]).mean(axis=0)
    return found
