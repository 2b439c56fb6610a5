"""Fetches the images that requests name by URL, from public addresses only, within limits of time and size."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpcore

from infermesh_router.images.addresses import is_public
from infermesh_router.images.contents import check_image, too_large
from infermesh_router.images.locations import Location, read_location, redirected
from infermesh_router.images.pinned import Dial, PinnedBackend, dial_tcp
from infermesh_router.images.reading import RemoteImage
from infermesh_router.images.resolving import HostResolver, ResolveHost
from infermesh_router.images.rules import ImageRules, bad_image

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AT_ONCE = 64
"""Most fetches of the whole router at a time; others wait, within their limit of time."""
_MAX_ADDRESSES = 8
_HEADERS = (("Accept", "image/png, image/jpeg, image/webp, image/gif"), ("Accept-Encoding", "identity"))

_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,  # of TLS, after the handshake
)

Arrived = Callable[[int], None]
"""Is told of each piece of an image how many bytes it has; raises if those are too many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How images are fetched."""

    timeout_s: float = 10.0
    """How long all images of a request may take together."""
    hosts: tuple[str, ...] = ()
    """Names of the hosts that may be asked; empty: all."""


class ImageFetcher:
    """Fetches images."""

    def __init__(
        self,
        rules: ImageRules,
        options: FetchOptions | None = None,
        *,
        resolve: ResolveHost | None = None,
        dial: Dial = dial_tcp,
        make_tls: Callable[[], ssl.SSLContext] = httpcore.default_ssl_context,
    ) -> None:
        self._rules = rules
        self._options = options or FetchOptions()
        self._resolver = HostResolver()
        self._resolve = resolve or self._resolver
        self._dial = dial
        self._make_tls = make_tls
        self._tls: asyncio.Task[ssl.SSLContext] | None = None
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, images: Sequence[RemoteImage], arrived: Arrived) -> list[bytes]:
        """The bytes of the images. Raises InvalidArgument, which names the image, and what `arrived` raises."""

        async def fetch_one(image: RemoteImage) -> bytes:
            async with self._free:
                return await self._fetch(image, arrived)

        try:
            async with asyncio.timeout(self._options.timeout_s), asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch_one(image)) for image in images]
        except TimeoutError:
            late = next((i for i, t in zip(images, tasks, strict=True) if t.cancelled()), images[-1])
            raise bad_image(late.path, f"could not be fetched within {self._options.timeout_s:g} s") from None
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def close(self) -> None:
        """Ends the threads that resolve names."""
        await self._resolver.close()

    async def _fetch(self, image: RemoteImage, arrived: Arrived) -> bytes:
        path, hosts = image.path, self._options.hosts
        location = read_location(image.url, path, hosts)
        for _ in range(1 + MAX_REDIRECTS):
            found = await self._ask(location, path, arrived)
            if isinstance(found, bytes):
                return check_image(found, path, self._rules)
            location = redirected(location, found, path, hosts)
        raise bad_image(path, f"is redirected more than {MAX_REDIRECTS} times")

    async def _ask(self, location: Location, path: str, arrived: Arrived) -> bytes | str:
        """The body of an answer, or where it redirects to."""
        addresses = await self._checked_addresses(location, path)
        tls = await self._tls_context() if location.scheme == "https" else None
        url = httpcore.URL(
            scheme=location.scheme.encode(),
            host=location.host.encode(),
            port=location.port,
            target=location.target.encode(),
        )
        backend = PinnedBackend(addresses, self._dial)
        try:
            async with (
                httpcore.AsyncConnectionPool(ssl_context=tls, max_connections=1, network_backend=backend) as pool,
                pool.stream("GET", url, headers=(("Host", _host_header(location)), *_HEADERS)) as response,
            ):
                return await self._read(response, path, arrived)
        except _FAILURES:
            raise bad_image(path, "could not be fetched: the connection to its host failed") from None

    async def _read(self, response: httpcore.Response, path: str, arrived: Arrived) -> bytes | str:
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and (to := headers.get(b"location")):
            return to
        if response.status != 200:
            raise bad_image(path, f"could not be fetched: its host answered with the status {response.status}")
        if headers.get(b"content-encoding", "identity").lower() != "identity":
            raise bad_image(path, "could not be fetched: its host sent it compressed although asked not to")
        length = headers.get(b"content-length", "")
        if length.isdecimal() and int(length[:20]) > self._rules.max_bytes:
            raise too_large(path, self._rules.max_bytes)
        pieces, size = [], 0
        async for piece in response.aiter_stream():
            size += len(piece)
            if size > self._rules.max_bytes:
                raise too_large(path, self._rules.max_bytes)
            arrived(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    async def _checked_addresses(self, location: Location, path: str) -> list[str]:
        """The addresses of a host, all of them public: those are connected to, and the name is not resolved again."""
        try:
            addresses = list(await self._resolve(location.host, location.port))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise bad_image(path, "could not be fetched: its host is not known")
        if not all(map(is_public, addresses)):
            raise bad_image(
                path,
                "leads to an address that is not public, which this server does not ask",
                reason="IMAGE_ADDRESS_NOT_PUBLIC",
            )
        return addresses[:_MAX_ADDRESSES]

    async def _tls_context(self) -> ssl.SSLContext:
        """What TLS needs, made once: reading the certificates takes some time."""
        if self._tls is None:
            self._tls = asyncio.create_task(asyncio.to_thread(self._make_tls))
        return await asyncio.shield(self._tls)


def _host_header(location: Location) -> str:
    host = f"[{location.host}]" if ":" in location.host else location.host
    default = {"http": 80, "https": 443}[location.scheme]
    return host if location.port == default else f"{host}:{location.port}"
