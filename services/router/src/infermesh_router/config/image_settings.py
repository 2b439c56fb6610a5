"""Settings of the images in conversations."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from infermesh_runtime.settings import CommaList, ServiceSettings

_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not the name of a host, as in cdn.example.org or *.example.org")
    return hosts


class ImageSettings(ServiceSettings):
    """How many images a request may have, how large, and whether the router fetches those that are named by URL."""

    image_urls: bool = Field(
        False,
        description="Whether the router fetches images that requests name by http(s) URLs. It then asks public "
        "addresses only, at the ports 80 and 443. Images in data: URLs need no such leave.",
    )
    image_hosts: Annotated[CommaList, AfterValidator(_check_hosts)] = Field(
        (),
        description="Hosts from which images may be fetched, separated by commas; *.example.org stands for all names "
        "that end so. Empty: all.",
    )
    image_timeout_s: float = Field(
        10.0,
        gt=0,
        le=300,
        description="How long fetching all images of a request may take, redirects included, in seconds.",
    )
    max_images: int = Field(20, ge=1, le=64, description="Most images in one REST body, over all its messages.")
    max_image_bytes: int = Field(
        20 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest image of a REST body, in bytes."
    )
