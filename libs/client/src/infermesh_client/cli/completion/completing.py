"""What a shell offers when Tab is pressed after an option or argument; asks no server, and fails at nothing."""

from collections.abc import Iterable, Iterator

from infermesh_client.mesh.state import read_state
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.manifest.model_manifest import model_paths
from infermesh_runtime.settings import SettingsError, read

_KINDS = ("auto", "gpu", "cpu", "xpu", "cuda")


def models(incomplete: str) -> Iterable[str]:
    """The models on disk."""
    return _beginning(incomplete, (path.name for home in _homes() for path in model_paths(home.models)))


def devices(incomplete: str) -> Iterable[str]:
    """Kinds of device, and the addresses of this user's workers."""
    return _beginning(incomplete, (*_KINDS, *_workers()))


def endpoints(incomplete: str) -> Iterable[str]:
    """The addresses of this user's workers."""
    return _beginning(incomplete, _workers())


def _workers() -> Iterator[str]:
    for home in _homes():
        state = read_state(home)
        yield from state.workers if state else ()


def _homes() -> Iterator[Home]:
    """This user's folder; none if the settings cannot be read."""
    try:
        yield Home.of(read(ClientSettings))
    except (SettingsError, OSError):
        return


def _beginning(incomplete: str, values: Iterable[str]) -> Iterable[str]:
    return [value for value in values if value.startswith(incomplete)]
