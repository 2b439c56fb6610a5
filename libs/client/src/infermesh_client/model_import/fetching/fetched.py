"""What an import asks of a source, and what it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infermesh_client.model_import.describing.facts import ModelFacts
from infermesh_client.model_import.describing.generation import GenerationFacts
from infermesh_runtime.manifest.model_manifest import ModelFormat

GGUF_NAME, CHAT_TEMPLATE = "model.gguf", "chat_template.jinja"
COPIES = 2
"""An import needs room for a copy and for a conversion of the same size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How a model is fetched."""

    link: bool = False
    """A GGUF file on this machine is linked instead of copied."""
    include: str | None = None
    """A pattern that the names of weights in a repository must match."""
    eos: Sequence[str] = ()
    """Tokens that end answers, beside those that the model names: their texts or ids."""
    before_copy: Callable[[ModelFormat], object] = bool
    """Called with the format of the weights when the checks have passed, before any are copied or downloaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was fetched into the staging folder."""

    label: str
    """The source, as the manifest records it."""
    facts: ModelFacts
    generation: GenerationFacts
    revision: str = ""
    """Commit, version or digest of the source; empty where it has none."""
    licence: str = ""
    """The licence that the source names; empty when it names none."""
    account: Sequence[str] = ()
    """What the checks found, in lines for people."""
    size_bytes: int = 0
    """Size of the files on this machine that an import copies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What is known of a source before anything is copied."""

    label: str
    account: Sequence[str]
    size_bytes: int
    """Size of what an import copies or downloads; 0 where it is not known beforehand."""
