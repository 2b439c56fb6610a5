"""Runs `infermesh ui`: opens the mesh's page in a browser, and prints its address."""

import webbrowser

import httpx

from infermesh_client.cli.boundary import load_settings
from infermesh_client.cli.http_target import http_target
from infermesh_runtime.errors import Unavailable

_ANSWER_TIMEOUT_S = 5.0


def run_ui(*, browser: bool) -> None:
    """Prints the page's URL, and opens it unless `browser` is off. Raises Unavailable when nothing answers there."""
    settings, home = load_settings()
    target = http_target("", None, settings, home)
    try:
        with httpx.Client(verify=target.trust, trust_env=False, timeout=_ANSWER_TIMEOUT_S) as client:
            client.get(target.url)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"nothing answers at {target.url}; `infermesh up` starts a mesh", reason="UNREACHABLE"
        ) from error
    print(f"{target.url}/")
    if browser:
        webbrowser.open(f"{target.url}/")
