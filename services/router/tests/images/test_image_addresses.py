"""Only addresses of the public internet are asked for images, and only URLs that every reader reads alike."""

import time

import pytest
from pydantic import ValidationError

from infermesh_router.config.body_options import image_rules
from infermesh_router.config.settings import RouterSettings
from infermesh_router.images.addresses import is_public
from infermesh_router.images.locations import Location, read_location, redirected
from infermesh_router.images.rules import ImageRules
from infermesh_runtime.errors import InvalidArgument

PATH = "messages[0].content[0].image_url"


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.88.99.1",
        "3fff::1",
        "5f00::1",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:93.184.216.34",
        "::127.0.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "2606:2800:220::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2001:0:1::1",
        "2002:7f00:1::1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "4000::1",
        "localhost",
        "",
    ],
)
def test_other_addresses(address: str) -> None:
    assert not is_public(address)


def test_what_a_location_is() -> None:
    found = read_location("HTTPS://User.Example.ORG./a/b.png?x=1&y=%20#part", PATH, ())
    assert found == Location("https", "user.example.org", 443, "/a/b.png?x=1&y=%20")
    assert read_location("http://[2606:2800:220::1]", PATH, ()) == Location("http", "2606:2800:220::1", 80, "/")
    assert read_location("http://h:443/a", PATH, ()).port == 443


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://user:password@example.org/a.png", "user name or password"),
        ("http://example.org@127.0.0.1/a.png", "user name or password"),
        ("http://@example.org/", "user name or password"),
        ("http://example.org:8080/", "port 80 or 443, not 8080"),
        ("http://example.org:22/", "port 80 or 443, not 22"),
        ("http://example.org:99999/", "is not a valid URL"),
        ("http://example.org\\@127.0.0.1/", "without blanks"),
        ("http://example.org/a b", "without blanks"),
        ("http://example.org/\r\nHost: x", "without blanks"),
        ("http://exämple.org/", "without blanks"),
        ("http://", "must name a host"),
        ("http:///etc/passwd", "must name a host"),
        ("http://exa%6dple.org/", "must name a host"),
        ("http://[::1/", "is not a valid URL"),
        ("ftp://example.org/a.png", "must lead to http"),
        ("file:///etc/passwd", "must lead to http"),
        (f"http://example.org/{'a' * 9000}", "at most 8192"),
        (f"http://{'a.' * 200}org/", "must name a host"),
    ],
)
def test_urls_that_are_refused(url: str, told: str) -> None:
    began_s = time.process_time()
    with pytest.raises(InvalidArgument) as refused:
        read_location(url, PATH, ())
    assert told in refused.value.message
    assert list(refused.value.fields) == [PATH]
    assert time.process_time() - began_s < 0.1


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("cdn.example.org", True),
        ("a.b.images.test", True),
        ("CDN.EXAMPLE.ORG", True),
        ("example.org", False),
        ("cdn.example.org.evil.test", False),
        ("images.test", False),
        ("evilimages.test", False),
    ],
)
def test_the_list_of_hosts(host: str, allowed: bool) -> None:
    hosts = ("cdn.example.org", "*.images.test")
    if allowed:
        assert read_location(f"http://{host}/", PATH, hosts).host == host.lower()
        return
    with pytest.raises(InvalidArgument, match="not in INFERMESH_IMAGE_HOSTS"):
        read_location(f"http://{host}/", PATH, hosts)


@pytest.mark.parametrize("hosts", ["https://cdn.example.org", "*", "a,b/c", "h:80", "*example.org", "10.0.0.0/8"])
def test_a_list_of_what_are_no_hosts_stops_the_start(hosts: str) -> None:
    with pytest.raises(ValidationError, match="is not the name of a host"):
        RouterSettings.model_validate({"image_hosts": hosts})


def test_hosts_are_compared_in_small_letters() -> None:
    settings = RouterSettings.model_validate({"image_hosts": "CDN.Example.org, *.Images.test.", "image_urls": True})
    assert image_rules(settings) == ImageRules(urls=True)
    assert settings.image_hosts == ("CDN.Example.org", "*.Images.test.")


def test_redirects_are_checked_as_the_first_url_is() -> None:
    start = read_location("https://cdn.example.org/a/b.png", PATH, ())
    assert redirected(start, "c.png?x", PATH, ()).target == "/a/c.png?x"
    assert redirected(start, "//other.test/d", PATH, ()) == Location("https", "other.test", 443, "/d")
    for to in ("http://other.test:8080/", "file:///etc/passwd", "http://a@b/", "http://[::1"):
        with pytest.raises(InvalidArgument):
            redirected(start, to, PATH, ())
    with pytest.raises(InvalidArgument, match="INFERMESH_IMAGE_HOSTS"):
        redirected(start, "https://other.test/", PATH, ("cdn.example.org",))
