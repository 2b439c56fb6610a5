"""What is asked of a sound, and what is found in it."""

from dataclasses import dataclass

from infermesh_worker.speech.window import LADDER, Writing
from infermesh_worker.speech.word_times.words import SaidWord


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How a sound is turned into text."""

    task: str = "transcribe"
    """Or "translate", into English."""
    language: str = ""
    """Code or English name; "": detected."""
    prompt: str = ""
    """Text that counts as said before."""
    temperatures: tuple[float, ...] = LADDER
    """Tried one after the other, until what is written is good."""
    words: bool = False
    """Whether to find when each word was said."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of the text."""

    index: int
    begin_s: float
    """From the beginning of the sound, as all times of its words."""
    end_s: float
    text: str
    tokens: tuple[int, ...]
    """Text and times."""
    compression_ratio: float
    writing: Writing
    """Of its window."""
    words: tuple[SaidWord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known of a sound when all of its segments have been found."""

    language: str
    language_probability: float
    """Of the detected language; 0 if it was told, or if the model knows only one."""
    duration_s: float
    prompt_tokens: int
    completion_tokens: int
