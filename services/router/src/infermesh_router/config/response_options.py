"""Makes the store of responses that the settings describe."""

from pathlib import Path

from infermesh_router.config.response_settings import OFF
from infermesh_router.config.settings import RouterSettings
from infermesh_router.responses.store.kept import StoreBounds
from infermesh_router.responses.store.response_store import ResponseStore

_FILE = "responses.sqlite"
"""Its name in INFERMESH_HOME."""
_DAY_S = 24 * 3600.0


def response_store(settings: RouterSettings) -> ResponseStore:
    """The store; one that keeps nothing and says why, if the settings do not say where."""
    bounds = StoreBounds(
        max_bytes=settings.responses_store_bytes,
        max_rows=settings.responses_store_rows,
        max_age_s=settings.responses_store_days * _DAY_S,
    )
    path, why_not = _path(settings)
    return ResponseStore(path, bounds, why_not=why_not)


def _path(settings: RouterSettings) -> tuple[Path | None, str]:
    given = settings.responses_store
    if given == OFF:
        return None, "The operator turned this off with INFERMESH_RESPONSES_STORE=off."
    if given:
        return Path(given).expanduser(), ""
    if settings.several_routers:
        return None, "With several routers, INFERMESH_RESPONSES_STORE must name a file that all of them share."
    if not settings.home:
        return None, "Set INFERMESH_HOME, or INFERMESH_RESPONSES_STORE to a file."
    return Path(settings.home).expanduser() / _FILE, ""
