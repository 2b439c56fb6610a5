"""Makes the store of files and batches that the settings describe."""

from pathlib import Path

from infermesh_router.batches.store.batch_store import BatchStore
from infermesh_router.batches.store.kept import StoreBounds
from infermesh_router.config.response_settings import OFF
from infermesh_router.config.settings import RouterSettings

_FILE = "batches.sqlite"
"""Its name in INFERMESH_HOME."""
_DAY_S = 24 * 3600.0


def batch_store(settings: RouterSettings) -> BatchStore:
    """The store; one that keeps nothing and says why, if the settings do not say where."""
    bounds = StoreBounds(max_bytes=settings.batches_bytes, max_age_s=settings.batches_days * _DAY_S)
    path, why_not = _path(settings)
    return BatchStore(path, bounds, why_not=why_not)


def _path(settings: RouterSettings) -> tuple[Path | None, str]:
    given = settings.batches_store
    if given == OFF:
        return None, "The operator turned this off with INFERMESH_BATCHES_STORE=off."
    if given:
        return Path(given).expanduser(), ""
    if settings.several_routers:
        return None, "With several routers, INFERMESH_BATCHES_STORE must name a file at the one that gets these calls."
    if not settings.home:
        return None, "Set INFERMESH_HOME, or INFERMESH_BATCHES_STORE to a file."
    return Path(settings.home).expanduser() / _FILE, ""
