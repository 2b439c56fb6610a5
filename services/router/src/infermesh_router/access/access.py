"""Lets requests in: identifies the caller by its API key, and counts what it asks for and is refused."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infermesh_router.access.credentials import read_secret
from infermesh_router.access.keyring import Keyring
from infermesh_router.access.keys_file import FollowedKeys
from infermesh_router.access.rate_limits import Headers, RateLimits
from infermesh_router.access.visit import Visit
from infermesh_router.metrics.access_metrics import AccessMetrics
from infermesh_router.requests.client_id import derive_client_id
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import InfermeshError, Unauthenticated
from infermesh_runtime.rpc.context import RpcContext

_ASK_FOR_KEY: Headers = (("www-authenticate", "Bearer"),)


class Access:
    """Knows the keys in force and what was used of their limits. Without keys, everybody may do everything."""

    def __init__(
        self,
        keys: FollowedKeys,
        metrics: AccessMetrics,
        *,
        routers: Callable[[], int] = lambda: 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`routers` tells how many routers share the limits now."""
        self._keys = keys
        self._metrics = metrics
        self._limits = RateLimits(share=lambda: 1 / routers(), clock=clock)
        self._known: Keyring | None = None

    def identify(self, context: RpcContext) -> ApiKey | None:
        """The caller's key; None if no key is needed. Raises Unauthenticated."""
        keyring = self._keys.keyring
        if keyring is None:
            return None
        if keyring is not self._known:
            self._known = keyring
            self._limits.keep_only(keyring.keys)
        try:
            return keyring.verify(read_secret(context.invocation_metadata()))
        except Unauthenticated as error:
            raise self._refused(context, error, _ASK_FOR_KEY) from None

    @contextmanager
    def entered(self, context: RpcContext) -> Iterator[Visit]:
        """One request, for the length of the block. Raises Unauthenticated, and ResourceExhausted beyond a limit."""
        key = self.identify(context)
        client = f"key {key.name}" if key else derive_client_id(context.invocation_metadata())
        with self._visiting(key, client, lambda error, headers: self._refused(context, error, headers)) as visit:
            yield visit

    @contextmanager
    def entered_later(self, owner: str, client: str) -> Iterator[Visit]:
        """A request that a caller left to be run later. `owner` is the hash of its key, "" if it needed none.

        `client` names the caller in the fair queue if there are no keys. Raises as `entered` does.
        """
        keyring = self._keys.keyring
        key = None if keyring is None else keyring.find(owner)
        with self._visiting(key, f"key {key.name}" if key else client, lambda error, _: self._counted(error)) as visit:
            yield visit

    @contextmanager
    def _visiting(
        self, key: ApiKey | None, client: str, refused: Callable[[InfermeshError, Headers], InfermeshError]
    ) -> Iterator[Visit]:
        usage = self._limits.usage(key) if key else None
        visit = Visit(key=key, client=client, limits=self._limits, usage=usage, refused=refused)
        visit.begin()
        try:
            yield visit
        finally:
            visit.settle()

    def _refused(self, context: RpcContext, error: InfermeshError, headers: Headers) -> InfermeshError:
        """Counts a refusal, and sends the headers with its status, which Envoy makes HTTP headers of."""
        context.set_trailing_metadata(headers)
        return self._counted(error)

    def _counted(self, error: InfermeshError) -> InfermeshError:
        self._metrics.refused.labels(error.reason.lower()).inc()
        return error
