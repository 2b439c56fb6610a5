"""Runs `infermesh explain`: shows what became of a request, or which requests were the newest."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import httpx
import msgspec

from infermesh_client.cli.boundary import load_settings
from infermesh_client.cli.connection import start_hint
from infermesh_client.cli.http_target import HttpTarget, http_target, own_secret
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.cli.watch.receipt import Receipt, Receipts
from infermesh_client.cli.watch.receipt_view import receipt_block, receipts_view
from infermesh_client.settings import Home
from infermesh_client.told import printable
from infermesh_runtime.errors import Internal, NotFound, PermissionDenied, Unauthenticated, Unavailable, Unimplemented

_ANSWER_TIMEOUT_S = 10.0
_REQUESTS = "/mesh/v1/requests"
_MANAGE_KEY = "x-infermesh-manage-key"
_REFUSALS = {401: Unauthenticated, 403: PermissionDenied, 404: NotFound, 501: Unimplemented}


def run_explain(request_id: str, *, limit: int, as_json: bool) -> None:
    """Prints the receipt, or without an id the newest ones. Raises NotFound, and InfermeshError."""
    settings, home = load_settings()
    target = http_target("", None, settings, home)
    path = f"{_REQUESTS}/{quote(request_id, safe='')}" if request_id else f"{_REQUESTS}?limit={limit}"
    content, where = _get(target, path, home), f"{target.url}{path}"
    console = SafeConsole()
    if as_json:
        with _reading(where):
            text = msgspec.json.format(content.decode(), indent=2)
        print(printable(text))
    elif request_id:
        with _reading(where):
            receipt = msgspec.json.decode(content, type=Receipt)
        for each in (receipt, *receipt.others):
            console.print(receipt_block(each))
    else:
        with _reading(where):
            receipts = msgspec.json.decode(content, type=Receipts).receipts
        console.print(receipts_view(receipts))


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Raises Internal if what is read in the block is no JSON, or no receipt."""
    try:
        yield
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # bytes that are no text are a ValueError
        raise Internal(f"{where} answers with what is no receipt: {error}") from error


def _get(target: HttpTarget, path: str, home: Home) -> bytes:
    """The answer; the mesh's owner sees all receipts, also where others need a key."""
    headers = {"authorization": f"Bearer {target.key}"} if target.key else {}
    if secret := own_secret(target.url, home):
        headers[_MANAGE_KEY] = secret
    try:
        with httpx.Client(verify=target.trust, trust_env=False, timeout=_ANSWER_TIMEOUT_S) as client:
            response = client.get(target.url + path, headers=headers)
    except httpx.HTTPError as error:
        hint = start_hint(home)
        raise Unavailable(f"nothing answers at {target.url}; {hint}", reason="UNREACHABLE") from error
    if response.is_error:
        raise _REFUSALS.get(response.status_code, Unavailable)(_message(response))
    return response.content


def _message(response: httpx.Response) -> str:
    """What the mesh says is wrong."""
    try:
        document = response.json()
        return str(document.get("error", document)["message"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{response.url} answers {response.status_code}"
