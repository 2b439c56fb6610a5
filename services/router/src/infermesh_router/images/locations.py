"""Reads the URLs of images, and refuses those that the router must not ask for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from infermesh_router.images.rules import bad_image

_PORTS = {"http": 80, "https": 443}
_MAX_CHARACTERS = 8192
_PLAIN = re.compile(r"[!-\[\]^-~]+")
"""ASCII without blanks, control characters and the backslash, about which readers of URLs disagree."""
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|[0-9a-f:.]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """A URL, read once: what is connected to and what is asked for are its parts, not the text again."""

    scheme: str
    host: str
    """A name or an IP address, the latter without brackets; in small letters."""
    port: int
    target: str
    """Path and query."""

    @property
    def url(self) -> str:
        """The URL, for redirects that are relative to it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.target}"


def read_location(url: str, path: str, hosts: Iterable[str]) -> Location:
    """The location that a URL names. `hosts`: the names that are allowed; none: all. Raises InvalidArgument."""
    if len(url) > _MAX_CHARACTERS or not _PLAIN.fullmatch(url):
        raise bad_image(path, f"must be a URL of at most {_MAX_CHARACTERS} ASCII characters without blanks")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError:
        raise bad_image(path, "is not a valid URL") from None
    scheme = split.scheme.lower()
    if scheme not in _PORTS:
        raise bad_image(path, "must lead to http:// or https://")
    if split.username is not None or split.password is not None or "@" in split.netloc:
        raise bad_image(path, "must not contain a user name or password")
    host = _host(split, path)
    port = _PORTS[scheme] if port is None else port
    if port not in _PORTS.values():
        raise bad_image(path, f"must lead to port 80 or 443, not {port}")
    if not _is_allowed(host, tuple(hosts)):
        raise bad_image(path, "leads to a host that is not in INFERMESH_IMAGE_HOSTS", reason="IMAGE_HOST_NOT_ALLOWED")
    target = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return Location(scheme, host, port, target)


def redirected(location: Location, to: str, path: str, hosts: Iterable[str]) -> Location:
    """Where a redirect leads, checked as the first URL was. Raises InvalidArgument."""
    try:
        url = urljoin(location.url, to)
    except ValueError:
        raise bad_image(path, "leads to a URL that is not valid") from None
    return read_location(url, path, hosts)


def _host(split: SplitResult, path: str) -> str:
    try:
        host = (split.hostname or "").lower().rstrip(".")
    except ValueError:
        host = ""
    if not host or len(host) > 253 or not _HOST.fullmatch(host):
        raise bad_image(path, "must name a host, in ASCII")
    return host


def _is_allowed(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether the host is one of those; "*.example.org" stands for all names that end so."""
    return not hosts or any(host.endswith(each[1:]) if each.startswith("*.") else host == each for each in hosts)
