"""What routers side by side on one machine need to know of each other, and of the files that they share."""

import os
from collections.abc import Mapping, Sequence

from infermesh_client.mesh.manage_key import manage_key_file
from infermesh_client.mesh.sockets import socket_path
from infermesh_client.settings import Home

_STORES = {"INFERMESH_RESPONSES_STORE": "responses.sqlite", "INFERMESH_BATCHES_STORE": "batches.sqlite"}
"""The settings that name what routers keep, and the names of the files in the home folder."""


def router_admins(home: Home, routers: int) -> list[str]:
    """The routers' admin addresses."""
    names = ["admin", *(f"admin-{index}" for index in range(1, routers))]
    return [f"unix:{socket_path(home, name)}" for name in names]


def router_environment(home: Home, admins: Sequence[str], index: int) -> Mapping[str, str]:
    """The environment variables that tell a router its place among the others.

    All share the file of responses. Only the first has the file of files and batches: Envoy sends these calls to it.
    """
    own = {"INFERMESH_ADMIN_LISTEN": admins[index], "INFERMESH_MANAGE_KEY_FILE": str(manage_key_file(home))}
    if len(admins) == 1:
        return own
    stores = {name: os.environ.get(name) or str(home.root / file) for name, file in _STORES.items()}
    if index:
        stores["INFERMESH_BATCHES_STORE"] = "off"
    others = ",".join(admin for admin in admins if admin != admins[index])
    return {**own, **stores, "INFERMESH_ROUTER_COUNT": str(len(admins)), "INFERMESH_SIBLINGS": others}
