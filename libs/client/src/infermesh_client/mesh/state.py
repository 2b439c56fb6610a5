"""Reads and writes $INFERMESH_HOME/run/mesh.json, which holds the addresses of the running mesh."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from infermesh_client.mesh.plan import MeshPlan
from infermesh_client.settings import Home

_FILE_NAME = "mesh.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshState:
    """Addresses (host:port, or unix:PATH) of the running mesh."""

    http: str
    grpc: str
    router: str
    workers: Sequence[str]
    metrics: Mapping[str, str]
    envoy_admin: str
    model: str
    admin: str = ""
    """The router's admin address."""
    tls_cert: str = ""
    """Path of the certificate with which Envoy serves; "" if it serves plain text."""


def write_state(plan: MeshPlan, home: Home, *, tls_cert: str = "") -> MeshState:
    """Writes the addresses of a plan to mesh.json and returns them."""
    state = MeshState(
        http=plan.http,
        grpc=plan.grpc,
        router=plan.router,
        workers=list(plan.workers),
        metrics=dict(plan.metrics),
        envoy_admin=plan.envoy_admin,
        model=plan.model,
        admin=plan.admin,
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
