"""Reads the first bytes of a file over HTTP."""

from collections.abc import Mapping

import httpx


def read_beginning(
    client: httpx.Client, url: str, parameters: Mapping[str, str], headers: Mapping[str, str], size_bytes: int
) -> bytes:
    """At least `size_bytes`, if the file has so many, also from a server that would send all of it.

    Raises httpx.HTTPError.
    """
    found = bytearray()
    asked = {**headers, "Range": f"bytes=0-{size_bytes - 1}"}
    with client.stream("GET", url, params=parameters or None, headers=asked, follow_redirects=True) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            found += chunk
            if len(found) >= size_bytes:
                break
    return bytes(found)
