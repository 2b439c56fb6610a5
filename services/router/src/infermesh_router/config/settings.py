"""The router's settings: environment variables INFERMESH_*. Which workers it has, where it listens, who may call it."""

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from infermesh_router.config.batch_settings import BatchSettings
from infermesh_router.config.body_settings import BodySettings
from infermesh_router.config.image_settings import ImageSettings
from infermesh_router.config.manage_settings import ManageSettings
from infermesh_router.config.receipt_settings import ReceiptSettings
from infermesh_router.config.relay_settings import RelaySettings
from infermesh_router.config.response_settings import ResponseSettings
from infermesh_router.config.shared_memory_settings import SharedMemorySettings
from infermesh_router.membership.target import Target, is_name, parse_target
from infermesh_runtime.addresses import UNIX, check_exposure, check_listen
from infermesh_runtime.api_keys import KEYS_FILE
from infermesh_runtime.settings import CommaList


def _check_workers(workers: tuple[str, ...]) -> tuple[str, ...]:
    for worker in workers:
        parse_target(worker)
    return workers


def _check_siblings(siblings: tuple[str, ...]) -> tuple[str, ...]:
    for sibling in siblings:
        parse_target(sibling) if is_name(sibling) else check_listen(sibling)
    return siblings


def _check_admin_listen(value: str) -> str:
    return check_listen(value) if value else value


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ip_network(network)
    return networks


class RouterSettings(
    RelaySettings,
    BodySettings,
    ImageSettings,
    ResponseSettings,
    BatchSettings,
    SharedMemorySettings,
    ReceiptSettings,
    ManageSettings,
):
    """The settings of a router, read once at the start."""

    admin_listen: Annotated[str, AfterValidator(_check_admin_listen)] = Field(
        "",
        description="Where to serve operators and workers that register: unix:PATH, or host:port, which needs the "
        "mesh token or mutual TLS. Clients cannot do there what is not offered at INFERMESH_LISTEN. Empty: nowhere.",
    )
    registration_networks: Annotated[CommaList, AfterValidator(_check_networks)] = Field(
        (),
        description="Networks in which workers may register, as in 10.0.0.0/8, separated by commas. Empty: any.",
    )
    workers: Annotated[CommaList, AfterValidator(_check_workers)] = Field(
        (),
        description="Workers to send requests to: a comma-separated list of host:port or dns:///name:port. A dns:/// "
        "name stands for all its addresses.",
    )
    workers_file: str = Field(
        "",
        description="Path of a file that lists more workers, one per line, written as in INFERMESH_WORKERS; # begins a "
        "comment. The router rereads the file when it changes. Empty: no file.",
    )
    mesh_config: str = Field(
        "",
        description="Path of mesh.yaml: weights, model rules, aliases, overflow and queue limits. Read again on "
        "SIGHUP. Empty: the defaults.",
    )
    home: str = Field(
        "",
        description="Folder of the mesh on this machine. If it has a file keys.json, requests need one of its API "
        "keys. The router follows its changes. Empty: no such file.",
    )
    keys_file: str = Field(
        "",
        description="Path of the file of API keys, in place of keys.json in INFERMESH_HOME. It must be there at the "
        "start.",
    )
    router_count: int = Field(
        1,
        ge=1,
        le=1000,
        description="Number of routers side by side, behind one address. Each enforces an equal share of every rate "
        "limit of API keys, and of how many requests may wait. With a dns:/// name in INFERMESH_SIBLINGS they are "
        "counted, and this is the least number to assume.",
    )
    siblings: Annotated[CommaList, AfterValidator(_check_siblings)] = Field(
        (),
        description="Admin addresses (INFERMESH_ADMIN_LISTEN) of the other routers side by side, separated by commas: "
        "host:port or unix:PATH. Each router then shows and manages the whole mesh. A dns:///name:port stands for "
        "all routers behind the name, this one included; they may come and go. Empty: only what it did itself.",
    )
    linger_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="How long a router that stops goes on serving new requests while its health says NOT_SERVING, in "
        "seconds, so that those in front of it notice first. Part of INFERMESH_DRAIN_S. 0: it stops once nothing runs.",
    )
    resolve_interval_s: float = Field(
        5.0, gt=0, le=3600, description="How often dns:/// names are resolved again, in seconds."
    )
    reconnect_max_s: float = Field(
        1.0, gt=0, le=60, description="Longest pause between two attempts to reach a lost endpoint, in seconds."
    )
    keepalive_s: float = Field(
        10.0,
        ge=6,
        le=3600,
        description="How long a connection to an endpoint may be silent before it is probed, in seconds.",
    )
    keepalive_timeout_s: float = Field(
        5.0,
        ge=0.1,
        le=600,
        description="Longest wait for the answer to a probe, in seconds. Then the endpoint counts as lost.",
    )

    def keys_path(self) -> Path | None:
        """Where API keys are looked for; None: nowhere."""
        if self.keys_file:
            return Path(self.keys_file).expanduser()
        return Path(self.home).expanduser() / KEYS_FILE if self.home else None

    @model_validator(mode="after")
    def _check_admin_access(self) -> Self:
        listen = self.admin_listen
        if not listen or listen.startswith(UNIX):
            return self
        if not (self.mesh_ca or self.token()):
            raise ValueError(
                f"INFERMESH_ADMIN_LISTEN={listen!r} would let everybody who reaches it stop the mesh. Set "
                "INFERMESH_MESH_TOKEN or INFERMESH_MESH_TOKEN_FILE, turn on mutual TLS with INFERMESH_MESH_CA, "
                "INFERMESH_MESH_CERT and INFERMESH_MESH_KEY, or listen on unix:PATH"
            )
        check_exposure("INFERMESH_ADMIN_LISTEN", listen, protected=bool(self.mesh_ca), insecure=self.insecure)
        return self

    @model_validator(mode="after")
    def _check_count(self) -> Self:
        if self.siblings and not self.sibling_targets() and self.router_count != len(self.siblings) + 1:
            raise ValueError(
                f"INFERMESH_SIBLINGS names {len(self.siblings)} other routers: set INFERMESH_ROUTER_COUNT to "
                f"{len(self.siblings) + 1}, not {self.router_count}"
            )
        return self

    @property
    def several_routers(self) -> bool:
        """Whether there may be other routers side by side with this one."""
        return self.router_count > 1 or bool(self.siblings)

    def sibling_addresses(self) -> tuple[str, ...]:
        """The other routers that are listed one by one."""
        return tuple(sibling for sibling in self.siblings if not is_name(sibling))

    def sibling_targets(self) -> tuple[Target, ...]:
        """The names that stand for routers, parsed."""
        return tuple(parse_target(sibling) for sibling in self.siblings if is_name(sibling))

    def targets(self) -> tuple[Target, ...]:
        """The workers that the settings list, parsed."""
        return tuple(parse_target(worker) for worker in self.workers)
