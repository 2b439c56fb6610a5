"""Images are fetched from public addresses only, whatever a name resolves to and wherever a redirect leads."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore
import pytest
import trustme

from infermesh_router.images.fetching import FetchOptions, ImageFetcher
from infermesh_router.images.pinned import dial_tcp
from infermesh_router.images.reading import RemoteImage
from infermesh_router.images.resolving import HostResolver
from infermesh_router.images.rules import ImageRules
from infermesh_router.testing.images import PNG
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted

PUBLIC, OTHER = "93.184.216.34", "1.1.1.1"
RULES = ImageRules(max_bytes=10_000, urls=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PNG), PNG)


def redirect(to: str) -> bytes:
    return b"HTTP/1.1 302 Found\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % to.encode()


@dataclass
class Web:
    """A web server that plays all hosts, and the resolver and dialler that lead there."""

    answers: dict[str, bytes] = field(default_factory=dict)
    """What each target is answered with; others hang."""
    names: dict[str, Sequence[str]] = field(default_factory=dict)
    """What names resolve to; others are public."""
    asked: list[str] = field(default_factory=list)
    """The first lines and hosts of requests."""
    dialled: list[tuple[str, int]] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    port: int = 0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.resolved.append(host)
        return self.names.get(host, [PUBLIC])

    async def dial(self, address: str, port: int) -> httpcore.AsyncNetworkStream:
        self.dialled.append((address, port))
        return await dial_tcp("127.0.0.1", self.port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target, host = head.split()[1], head.split("Host: ")[1].split("\r\n")[0]
            self.asked.append(f"{host}{target}")
            if target in self.answers:
                writer.write(self.answers[target])
                await writer.drain()
            else:
                await reader.read()  # until the client goes away
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(web: Web, tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0, ssl=tls)
    web.port = server.sockets[0].getsockname()[1]
    async with server:
        yield web


def image(url: str = "http://example.org/a.png", path: str = "messages[0].content[1].image_url") -> RemoteImage:
    return RemoteImage(path, url, 0, 0)


async def fetch(
    web: Web,
    *images: RemoteImage,
    arrived: Callable[[int], None] = lambda _: None,
    make_tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None,
    rules: ImageRules = RULES,
    hosts: tuple[str, ...] = (),
    timeout_s: float = 20.0,
) -> list[bytes]:
    options = FetchOptions(timeout_s=timeout_s, hosts=hosts)
    fetcher = ImageFetcher(rules, options, resolve=resolve or web.resolve, dial=web.dial, make_tls=make_tls)
    try:
        return await fetcher.fetch(images or (image(),), arrived)
    finally:
        await fetcher.close()


async def refused(web: Web, url: str = "http://example.org/a.png", **more: object) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        await fetch(web, image(url), **more)  # type: ignore[arg-type]
    assert list(caught.value.fields) == ["messages[0].content[1].image_url"]
    return caught.value


async def test_images_come_in_the_order_of_their_urls() -> None:
    other = PNG + b"!"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(other), other)
    sizes: list[int] = []
    async with running(Web({"/a.png": OK, "/b.png?x=1": answer})) as web:
        got = await fetch(web, image(), image("http://two.test/b.png?x=1#y"), arrived=sizes.append)
    assert got == [PNG, other]
    assert sum(sizes) == len(PNG) + len(other)
    assert sorted(web.asked) == ["example.org/a.png", "two.test/b.png?x=1"]
    assert web.dialled == [(PUBLIC, 80)] * 2


async def test_redirects_are_followed_and_checked_each_time() -> None:
    hops = {f"/{n}": redirect(f"/{n + 1}") for n in range(3)}
    async with running(Web({**hops, "/3": OK})) as web:
        assert await fetch(web, image("http://example.org/0")) == [PNG]
        assert len(web.resolved) == 4
        hops["/3"] = redirect("/4")
        web.answers |= hops
        assert "more than 3 times" in (await refused(web, "http://example.org/0")).message


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://inside.test/",
    ],
)
async def test_private_addresses_are_not_asked(to: str) -> None:
    system = HostResolver()

    async def resolve(host: str, port: int) -> Sequence[str]:
        return (
            ["10.1.2.3"] if host == "inside.test" else [PUBLIC] if host == "example.org" else await system(host, port)
        )

    async with running(Web({"/a.png": redirect(to)})) as web:
        error = await refused(web, resolve=resolve)
        assert error.reason == "IMAGE_ADDRESS_NOT_PUBLIC"
        assert web.dialled == [(PUBLIC, 80)]
        assert (await refused(web, to, resolve=resolve)).reason == "IMAGE_ADDRESS_NOT_PUBLIC"
        assert web.dialled == [(PUBLIC, 80)]
    await system.close()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://h:6379/", "http://a:b@h/", "http://h\\@x/", "ftp://h/"])
async def test_redirects_to_other_places_are_refused(to: str) -> None:
    async with running(Web({"/a.png": redirect(to)})) as web:
        await refused(web)
        assert len(web.dialled) == 1


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    web = Web(names={"example.org": [PUBLIC, "::ffff:127.0.0.1"]})
    assert (await refused(web)).reason == "IMAGE_ADDRESS_NOT_PUBLIC"
    assert not web.dialled


async def test_a_name_that_means_something_else_by_then_changes_nothing() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    async with running(Web({"/a.png": OK})) as web:
        assert await fetch(web, resolve=rebinding) == [PNG]
    assert web.dialled == [(PUBLIC, 80)]
    assert next(answers) == ["127.0.0.1"], "the name is resolved once"


async def test_the_next_address_is_tried_if_one_does_not_answer() -> None:
    async with running(Web({"/a.png": OK}, {"example.org": [OTHER, PUBLIC]})) as web:
        dial = web.dial

        async def half(address: str, port: int) -> httpcore.AsyncNetworkStream:
            if address == OTHER:
                raise httpcore.ConnectError
            return await dial(address, port)

        web.dial = half  # type: ignore[method-assign]
        assert await fetch(web) == [PNG]
    assert web.dialled == [(PUBLIC, 80)]


async def test_tls_checks_the_name_although_an_address_is_connected_to() -> None:
    authority = trustme.CA()
    serving, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("example.org").configure_cert(serving)
    authority.configure_trust(asking)
    async with running(Web({"/a.png": OK}), serving) as web:
        assert await fetch(web, image("https://example.org/a.png"), make_tls=lambda: asking) == [PNG]
        assert web.dialled == [(PUBLIC, 443)]
        error = await refused(web, "https://other.test/a.png", make_tls=lambda: asking)
        assert "the connection to its host failed" in error.message
        assert web.asked == ["example.org/a.png"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 404 No\r\nContent-Length: 6\r\n\r\nsecret", "the status 404"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "the status 304"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "the status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret", "must be an image"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n", "has more than 10000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG + bytes(10_000), "has more than 10000 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n\r\nsecret", "compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsecret", "the connection to its host failed"),
        (b"secret", "the connection to its host failed"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: secret\r\n" * 20_000, "the connection to its host failed"),
    ],
)
async def test_answers_that_are_no_image(answer: bytes, told: str) -> None:
    async with running(Web({"/a.png": answer})) as web:
        message = (await refused(web)).message
    assert told in message
    assert "secret" not in message


async def test_an_image_that_comes_just_as_the_time_ends_is_late() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        try:
            return await asyncio.Future[Sequence[str]]()
        except asyncio.CancelledError:  # as if it had ended in the same turn of the event loop
            return [PUBLIC]

    async with running(Web({"/a.png": OK})) as web:
        with pytest.raises(InvalidArgument, match=r"^'last' could not be fetched within 0.05 s"):
            await fetch(web, image(path="first"), image(path="last"), resolve=resolve, timeout_s=0.05)


async def test_a_host_that_says_nothing_is_waited_for_so_long() -> None:
    first, late = image(path="first"), image("http://example.org/hangs", path="late")
    async with running(Web({"/a.png": OK})) as web:
        with pytest.raises(InvalidArgument, match=r"^'late' could not be fetched within 0.2 s"):
            await fetch(web, first, late, timeout_s=0.2)


async def test_hosts_that_are_not_known() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("secret")

    assert "its host is not known" in (await refused(Web(), resolve=unknown)).message


async def test_only_hosts_of_the_list_are_resolved() -> None:
    web = Web()
    assert (await refused(web, hosts=("cdn.test",))).reason == "IMAGE_HOST_NOT_ALLOWED"
    assert not web.resolved


async def test_redirects_to_hosts_outside_the_list_are_refused() -> None:
    async with running(Web({"/a.png": redirect("http://other.test/b.png"), "/b.png": OK})) as web:
        assert (await refused(web, hosts=("example.org",))).reason == "IMAGE_HOST_NOT_ALLOWED"
    assert web.resolved == ["example.org"]


async def test_a_body_without_end_is_left_at_the_limit() -> None:
    sizes: list[int] = []
    async with running(
        Web({"/a.png": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG + bytes(1_000_000)})
    ) as web:
        assert "has more than 10000 bytes" in (await refused(web, arrived=sizes.append)).message
    assert sum(sizes) <= RULES.max_bytes


async def test_what_counts_the_bytes_may_stop_it() -> None:
    def no_more(_size: int) -> None:
        raise ResourceExhausted("too much", reason="BODIES_TOO_LARGE")

    async with running(Web({"/a.png": OK})) as web:
        with pytest.raises(ResourceExhausted):
            await fetch(web, arrived=no_more)
