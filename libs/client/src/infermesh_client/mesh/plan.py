"""Plans a mesh on this machine: its processes with their commands, ports and environment variables."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.mesh.ports import HOST, pick_free_ports
from infermesh_client.mesh.routers import router_admins, router_environment
from infermesh_client.mesh.sockets import socket_path
from infermesh_client.mesh.token import token_file
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.addresses import unix_path

ROUTER_MODULE = "infermesh_router"
NO_MODEL = "none"
"""Value of INFERMESH_MODEL for a mesh that starts without a model."""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the mesh, to be run by the supervisor."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    stop_order: int
    """Services with a larger number stop first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """All processes of a mesh and the addresses (host:port, or unix:PATH) they will have."""

    services: Sequence[Service]
    http: str
    grpc: str
    routers: Sequence[str]
    admins: Sequence[str]
    """The routers' admin addresses, for the command and for each other."""
    workers: Sequence[str]
    metrics: Mapping[str, str]
    """Address of the Prometheus metrics of each service, by its name."""
    envoy_admin: str
    model: str
    """Name of the model that the local workers load at the start; NO_MODEL for none."""


def plan_mesh(
    settings: ClientSettings, home: Home, workers: Sequence[WorkerSpec], model: str, routers: int = 1
) -> MeshPlan:
    """Picks free ports and lists the processes. Envoy will read its configuration from `envoy_config(home)`."""
    router_names = ["router"] if routers == 1 else [f"router-{index}" for index in range(routers)]
    names = [worker.name for worker in workers]
    # in the order of their addresses, by which endpoints are listed and numbered
    ports = iter(sorted(pick_free_ports(2 * (len(names) + routers)), key=str))
    listens = {name: f"{HOST}:{next(ports)}" for name in (*names, *router_names)}
    metrics = {name: f"{HOST}:{next(ports)}" for name in (*names, *router_names)}
    admins = router_admins(home, routers)
    endpoints = ",".join([*(listens[name] for name in names), *_other_workers()])
    side_by_side = [  # they stop first, so that they drain while Envoy still relays
        Service(
            name,
            _python(ROUTER_MODULE),
            {
                **_shared(home),
                **_listen(name, listens, metrics),
                **router_environment(home, admins, index),
                "INFERMESH_WORKERS": endpoints,
            },
            3,
        )
        for index, name in enumerate(router_names)
    ]
    return MeshPlan(
        services=[
            *_worker_services(home, workers, listens, metrics, model),
            *side_by_side,
            Service("envoy", _envoy_command(envoy_config(home)), {}, 2),
        ],
        http=f"{HOST}:{settings.http_port}",
        grpc=f"{HOST}:{settings.grpc_port}",
        routers=[listens[name] for name in router_names],
        admins=admins,
        workers=[listens[name] for name in names],
        metrics=metrics,
        envoy_admin=f"unix:{socket_path(home, 'envoy-admin')}",
        model=model,
    )


def _worker_services(
    home: Home, workers: Sequence[WorkerSpec], listens: Mapping[str, str], metrics: Mapping[str, str], model: str
) -> Sequence[Service]:
    return [
        Service(
            worker.name,
            _python(worker.module),
            {
                **_shared(home),
                **worker.environment,
                **_listen(worker.name, listens, metrics),
                "INFERMESH_MODEL": model,
            },
            1,
        )
        for worker in workers
    ]


def _shared(home: Home) -> Mapping[str, str]:
    """The environment variables of every process of ours."""
    return {
        "INFERMESH_HOME": str(home.root),
        "INFERMESH_MODELS": str(home.models),
        "INFERMESH_MESH_TOKEN_FILE": str(token_file(home)),
    }


def envoy_config(home: Home) -> Path:
    """Path of Envoy's rendered configuration."""
    return home.run / "envoy.yaml"


def write_envoy_config(plan: MeshPlan, settings: ClientSettings, home: Home) -> None:
    """Writes Envoy's configuration for a plan. Envoy writes its access log to stdout, which the supervisor rotates."""
    from infermesh_envoy import (  # noqa: PLC0415 - installed only where a mesh runs
        Address,
        EnvoyOptions,
        ListenerTls,
        MeshTls,
        render,
        write_secrets,
    )

    ca, cert, key = Path(settings.mesh_ca), Path(settings.mesh_cert), Path(settings.mesh_key)
    options = EnvoyOptions(
        http=Address.parse(plan.http),
        grpc=Address.parse(plan.grpc),
        router=Address.parse(plan.routers[0]),
        more_routers=tuple(map(Address.parse, plan.routers[1:])),
        admin_socket=unix_path(plan.envoy_admin),
        cors_origins=settings.cors_origins,
        allowed_hosts=settings.allowed_hosts,
        reflection=settings.reflection,
        tls=ListenerTls(Path(settings.tls_cert), Path(settings.tls_key)) if settings.tls_cert else None,
        mesh_tls=MeshTls(ca, cert, key, settings.mesh_name) if settings.mesh_ca else None,
        secrets=home.run,
    )
    write_secrets(options)
    envoy_config(home).write_text(render(options), encoding="utf-8")


def _envoy_command(config: Path) -> Sequence[str]:
    from infermesh_envoy import command  # noqa: PLC0415 - installed only where a mesh runs

    return [str(part) for part in command(config)]


def _python(module: str) -> Sequence[str]:
    return [sys.executable, "-P", "-m", module]


def _listen(name: str, listens: Mapping[str, str], metrics: Mapping[str, str]) -> Mapping[str, str]:
    return {"INFERMESH_LISTEN": listens[name], "INFERMESH_METRICS_LISTEN": metrics[name]}


def _other_workers() -> Sequence[str]:
    """Workers that the user named in INFERMESH_WORKERS; the router uses them in addition to the local ones."""
    return [part for raw in os.environ.get("INFERMESH_WORKERS", "").split(",") if (part := raw.strip())]
