"""Which language a voice speaks, by the first letter of its name, and what eSpeak NG calls it."""

from infermesh_runtime.errors import InvalidArgument

_OF_VOICE = {"a": "en-us", "b": "en-gb", "e": "es", "f": "fr-fr", "h": "hi", "i": "it", "p": "pt-br"}
_OF_CODE = {"en": "en-us", "es": "es", "fr": "fr-fr", "hi": "hi", "it": "it", "pt": "pt-br"}


def is_speakable(voice: str) -> bool:
    """Whether eSpeak NG writes the phonemes that the voice knows; those of Japanese and Chinese it does not."""
    return voice[:1] in _OF_VOICE


def language_of(voice: str, asked: str) -> str:
    """The language to read a text in: the one that was asked for by its ISO 639-1 code, else that of the voice.

    English is read as the voice speaks it, if it is an English one. Raises InvalidArgument for an unknown code.
    """
    own = _OF_VOICE[voice[0]]
    code = asked.lower()
    if not code or own.partition("-")[0] == code:
        return own
    if code not in _OF_CODE:
        problem = f"must be one of {', '.join(_OF_CODE)}, not {asked!r}"
        raise InvalidArgument(f"language: {problem}", fields={"language": problem})
    return _OF_CODE[code]
