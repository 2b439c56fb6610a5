"""Reads and writes $INFERMESH_HOME/run/mesh.json, which holds the addresses of the running mesh."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from infermesh_client.mesh.plan import MeshPlan
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.settings import PREFIX, variables

_FILE_NAME = "mesh.json"
_MODEL = "INFERMESH_MODEL"
_SHARED = frozenset({"INFERMESH_HTTP_PORT", "INFERMESH_GRPC_PORT", "INFERMESH_MODELS"})
"""Settings of the command that the mesh is started with; its others concern the command alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshState:
    """Addresses (host:port, or unix:PATH) of the running mesh."""

    http: str
    grpc: str
    router: str
    """The first router's address for clients."""
    workers: Sequence[str]
    metrics: Mapping[str, str]
    envoy_admin: str
    model: str
    """The model that was loaded at the start; NO_MODEL for none."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What `digest_settings` made of the environment that it was started in."""
    admin: str = ""
    """The first router's admin address."""
    admins: Sequence[str] = ()
    """The admin addresses of all routers."""
    tls_cert: str = ""
    """Path of the certificate with which Envoy serves; "" if it serves plain text."""


def digest_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """A digest of each variable that a mesh is started with; values may be secrets, so they are not kept."""
    own = variables(ClientSettings) - _SHARED | {_MODEL}
    return {
        name: hashlib.sha256(os.fsencode(value)).hexdigest()[:16]
        for name, value in sorted(environment.items())
        if name.startswith(PREFIX) and name not in own
    }


def write_state(plan: MeshPlan, home: Home, *, tls_cert: str = "") -> MeshState:
    """Writes the addresses of a plan to mesh.json and returns them."""
    state = MeshState(
        http=plan.http,
        grpc=plan.grpc,
        router=plan.routers[0],
        workers=list(plan.workers),
        metrics=dict(plan.metrics),
        envoy_admin=plan.envoy_admin,
        model=plan.model,
        settings=digest_settings(os.environ),
        admin=plan.admins[0],
        admins=list(plan.admins),
        tls_cert=tls_cert,
    )
    home.run.mkdir(parents=True, exist_ok=True)
    (home.run / _FILE_NAME).write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    return state


def read_state(home: Home) -> MeshState | None:
    """Reads mesh.json; None when it is missing or malformed."""
    try:
        return MeshState(**json.loads((home.run / _FILE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def remove_state(home: Home) -> None:
    """Deletes mesh.json."""
    (home.run / _FILE_NAME).unlink(missing_ok=True)
