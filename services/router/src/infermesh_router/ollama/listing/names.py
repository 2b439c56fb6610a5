"""Names of models with Ollama's tags: `llama3` and `llama3:latest` are the same model."""

_LATEST = ":latest"


def with_tag(name: str) -> str:
    """The name as Ollama lists it."""
    return name if ":" in name else name + _LATEST


def without_tag(name: str) -> str:
    """The name as the mesh knows it. A tag other than `latest` belongs to the name: an alias may have one."""
    return name.removesuffix(_LATEST)
