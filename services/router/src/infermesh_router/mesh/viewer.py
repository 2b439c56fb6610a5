"""Says what a caller of MeshService sees, and whether it may manage the mesh."""

from dataclasses import dataclass

from infermesh_router.access.access import Access
from infermesh_router.access.permissions import may_use
from infermesh_router.mesh.owner import Owner
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import PermissionDenied
from infermesh_runtime.rpc.context import RpcContext


@dataclass(frozen=True, slots=True)
class Viewer:
    """A caller."""

    key: ApiKey | None
    """Its key; None: the mesh has no keys, or this is its owner."""
    manages: bool
    """Whether it may manage the mesh."""

    @property
    def client(self) -> str | None:
        """Whose requests it sees, as the queue names clients; None: everybody's."""
        return None if self.key is None or self.manages else f"key {self.key.name}"

    @property
    def models(self) -> tuple[str, ...]:
        """The only models that it sees; empty: all."""
        return () if self.key is None else self.key.models

    @property
    def sees_all(self) -> bool:
        """Whether it sees everybody's requests, of all models."""
        return self.client is None and not self.models

    def may_see(self, model: str) -> bool:
        """Whether it sees a model."""
        return self.key is None or may_use(self.key, model)

    def sees(self, client: str) -> bool:
        """Whether it sees what is about a request of this client; "": about none."""
        return not client or self.client is None or client == self.client


def identify(access: Access, owner: Owner, context: RpcContext) -> Viewer:
    """The caller: the owner, whatever the keys, else whom its key names. Raises Unauthenticated."""
    if owner.calls(context):
        return Viewer(None, manages=True)
    key = access.identify(context)
    return Viewer(key, manages=key is not None and key.admin)


def check_manages(viewer: Viewer) -> None:
    """Raises PermissionDenied for a caller that may not manage the mesh."""
    if viewer.manages:
        return
    how = "Open the page with `infermesh ui`, or make a key that may with `infermesh keys create NAME --admin`."
    problem = "Only the mesh's owner manages a mesh without API keys."
    if viewer.key is not None:
        problem = f"The API key '{viewer.key.name}' may not manage the mesh."
    raise PermissionDenied(f"{problem} {how}", reason="ADMIN_KEY_NEEDED")
