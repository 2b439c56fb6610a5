"""A catalog whose models have no sampling defaults of their own."""

from collections.abc import Mapping
from dataclasses import replace

from infermesh_worker.models.catalog import Catalog, CatalogEntry
from infermesh_worker.models.opened_model import OpenedModel


class NeutralCatalog:
    """The models of another catalog, without what their makers say about sampling."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def entries(self) -> Mapping[str, CatalogEntry]:
        """All models by name, as they are now."""
        return {name: replace(entry, generation=None) for name, entry in self._catalog.entries().items()}

    def open(self, name: str) -> OpenedModel:
        """Opens a model. Raises ModelNotFound, and FailedPrecondition when its files cannot be used."""
        return without_defaults(self._catalog.open(name))


def without_defaults(model: OpenedModel) -> OpenedModel:
    """The model without defaults of its own."""
    return replace(model, generation=None)
