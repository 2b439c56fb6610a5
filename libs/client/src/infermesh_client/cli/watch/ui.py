"""Runs `infermesh ui`: opens the mesh's page in a browser as its owner, and prints its address."""

import webbrowser

import httpx

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.http_target import http_target, owner_secret
from infermesh_client.mesh.manage_key import managing_url, write_opening
from infermesh_runtime.errors import Unavailable

_ANSWER_TIMEOUT_S = 5.0
_KEEP_IT = "This address is secret: whoever opens it can drain endpoints, and load and unload models."
_IF_NOTHING_OPENS = "If no page opens, `infermesh ui --no-browser` prints an address to open yourself."


def run_ui(*, browser: bool) -> None:
    """Prints the page's URL, and opens it unless `browser` is off. Raises Unavailable when nothing answers there.

    The page of this user's mesh is opened with the secret that lets it manage the mesh.
    """
    settings, home = load_settings()
    target = http_target("", None, settings, home)
    try:
        with httpx.Client(verify=target.trust, trust_env=False, timeout=_ANSWER_TIMEOUT_S) as client:
            client.get(target.url)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"nothing answers at {target.url}; `infermesh up` starts a mesh", reason="UNREACHABLE"
        ) from error
    page, secret = f"{target.url}/", owner_secret(target.url, home)
    if browser:
        print(page)
        webbrowser.open(write_opening(home, managing_url(page, secret)).as_uri() if secret else page)
    else:
        print(managing_url(page, secret) if secret else page)
    if secret:
        error_console().print(_IF_NOTHING_OPENS if browser else _KEEP_IT, markup=False, soft_wrap=True)
