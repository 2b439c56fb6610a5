"""Recognises the mesh's owner by the secret that `infermesh up` wrote for them and `infermesh ui` gives the page."""

import hmac

from infermesh_runtime.rpc.context import RpcContext

MANAGE_KEY = "x-infermesh-manage-key"


class Owner:
    """Whoever knows the secret. An empty secret: nobody."""

    __slots__ = ("_secret",)

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def calls(self, context: RpcContext) -> bool:
        """Whether the call comes from the owner: it has the secret, once."""
        told = [value for name, value in context.invocation_metadata() if name == MANAGE_KEY]
        if not self._secret or len(told) != 1:
            return False
        value = told[0]
        return hmac.compare_digest(value.encode() if isinstance(value, str) else value, self._secret)
