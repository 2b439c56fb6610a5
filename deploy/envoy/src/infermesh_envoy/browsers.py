"""Which web pages may call the REST API, as regular expressions for Envoy."""

import re
from ipaddress import ip_address

from infermesh_envoy.options import EnvoyOptions

ANY = "*"
ANY_LABELS = "*."
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


def hosts_regex(options: EnvoyOptions) -> str:
    """Matches the Host headers that are accepted, with any port; "" if all are."""
    names = options.allowed_hosts
    if is_loopback(options.http.host):
        names = (*LOOPBACK_HOSTS, *names)
    if not names or ANY in names:
        return ""
    return rf"(?i)({'|'.join(map(_pattern, names))})(:\d+)?"


def origins_regex(options: EnvoyOptions) -> str:
    """Matches the Origin headers that are accepted; "" if all are. Without origins it matches none."""
    if ANY in options.cors_origins:
        return ""
    return "|".join(re.escape(origin) for origin in options.cors_origins) or "none"


def own_names(options: EnvoyOptions) -> list[str]:
    """Names, in small letters, by which the mesh's own page may be opened, beside addresses.

    A web page can make a name of its own point to any address, and would then count as ours. It cannot do so with a
    name of loopback, nor with one that INFERMESH_ALLOWED_HOSTS lists in full.
    """
    return [LOOPBACK_HOSTS[0], *(name.lower() for name in options.allowed_hosts if not name.startswith(ANY))]


def refusals(options: EnvoyOptions) -> list[tuple[str, str, str, str]]:
    """For each header that is checked: what accepts it, its name, and code and message of the error that refuses it."""
    host = "The API may not be called by the name %REQ(:AUTHORITY)%. Call it by its address, or name it in "
    origin = (
        "Web pages of %REQ(ORIGIN)% may not call the API. To let them, list this origin in INFERMESH_CORS_ORIGINS; if "
        "this is the mesh's own page, list its name in INFERMESH_ALLOWED_HOSTS"
    )
    checked = [
        (hosts_regex(options), ":authority", "host_not_allowed", f"{host}INFERMESH_ALLOWED_HOSTS"),
        (
            origins_regex(options),
            "origin",
            "origin_not_allowed",
            origin,
        ),
    ]
    return [each for each in checked if each[0]]


def _pattern(name: str) -> str:
    """Matches the name; "*.svc" matches all names that end so."""
    if not name.startswith(ANY_LABELS):
        return re.escape(name)
    return rf"([a-z0-9-]+\.)+{re.escape(name.removeprefix(ANY_LABELS))}"


def is_ip(host: str) -> bool:
    """Whether the host is an address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only processes on this machine can reach the host. A name other than localhost may be anywhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
