"""Images in data: URLs are read; what is none is refused, whatever it claims."""

import base64

import pytest

from infermesh_router.images.contents import read_base64, read_data_url
from infermesh_router.images.reading import ImageReader
from infermesh_router.images.rules import ImageRules
from infermesh_router.testing.images import DATA_URL, ENCODED, GIF, JPEG, PNG, WEBP
from infermesh_runtime.errors import InvalidArgument

RULES = ImageRules(most=2, max_bytes=4096)
PATH = "messages[0].content[1].image_url"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("data", [PNG, JPEG, WEBP, GIF])
def test_each_kind_of_file(data: bytes) -> None:
    assert read_data_url(f"data:image/png;base64,{encoded(data)}", PATH, RULES) == data


@pytest.mark.parametrize(
    "url",
    [
        DATA_URL,
        f"DATA:IMAGE/PNG;BASE64,{ENCODED}",
        f"data:image/*;base64,{ENCODED}",
        f"data:image/png;name=a.png;base64,{ENCODED}",
        f"data:image/png;base64,{ENCODED.rstrip('=')}",
        f"data:image/png;base64,{ENCODED[:40]}\r\n{ENCODED[40:]}\n",
    ],
)
def test_ways_to_write_it(url: str) -> None:
    assert read_data_url(url, PATH, RULES) == PNG


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data:", "must be a data: URL in base64"),
        ("data:,", "must be a data: URL in base64"),
        ("data:image/png,%89PNG", "must be a data: URL in base64"),
        ("data:image/svg+xml;utf8,<svg/>", "must be a data: URL in base64"),
        (f"data:image/png;base64{';x' * 200},{ENCODED}", "must be a data: URL in base64"),
        (f"data:text/html;base64,{ENCODED}", "its type must begin with 'image/'"),
        (f"data:;base64,{ENCODED}", "its type must begin with 'image/'"),
        ("data:image/png;base64,", "must be an image"),
        ("data:image/png;base64,aGk=", "must be an image"),
        (f"data:image/svg+xml;base64,{encoded(b'<svg/>')}", "must be an image"),
        ("data:image/png;base64,!!!!", "is not valid base64"),
        ("data:image/png;base64,äöü", "is not valid base64"),
        (f"data:image/png;base64,{ENCODED}{ENCODED}", "is not valid base64"),
        (f"data:image/png;base64,{encoded(PNG + bytes(4096))}", "has more than 4096 bytes"),
    ],
)
def test_what_is_refused(url: str, told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read_data_url(url, PATH, RULES)
    assert told in refused.value.message
    assert list(refused.value.fields) == [PATH]


def test_an_image_that_is_too_large_is_not_decoded() -> None:
    with pytest.raises(InvalidArgument, match="more than 4096 bytes"):  # and not: that it is not valid base64
        read_base64("!" * (1 << 20), PATH, RULES)


@pytest.mark.parametrize("size", [4094, 4095, 4096])
def test_the_largest_image_fits(size: int) -> None:
    data = PNG + bytes(size - len(PNG))
    assert read_base64(encoded(data), PATH, RULES) == data


def test_too_many_images_are_refused_by_the_first_too_many() -> None:
    reader = ImageReader(RULES, ["a", "b", "c"])
    for part in range(2):
        assert reader.read(DATA_URL, "low", at=(0, part), path="").data == PNG
    with pytest.raises(InvalidArgument, match=r"^'c' is one image too many: at most 2"):
        reader.read(DATA_URL, None, at=(0, 2), path="")
    assert reader.names == {"chat.messages[0].parts[0]": "a", "chat.messages[0].parts[1]": "b"}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x.png", "//h/x.png", "x", "gopher://h", " http://h"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(InvalidArgument, match="must be a data: URL"):
        ImageReader(ImageRules(urls=True)).read(url, None, at=(0, 0), path=PATH)


def test_urls_are_refused_unless_the_operator_allows_them() -> None:
    with pytest.raises(InvalidArgument, match="INFERMESH_IMAGE_URLS=true") as refused:
        ImageReader(RULES).read("https://example.org/a.png", None, at=(0, 0), path=PATH)
    assert refused.value.reason == "IMAGE_URLS_OFF"
    allowed = ImageReader(ImageRules(urls=True))
    assert allowed.read("https://example.org/a.png", "high", at=(0, 0), path=PATH).detail == "high"
    assert [image.url for image in allowed.remote] == ["https://example.org/a.png"]
