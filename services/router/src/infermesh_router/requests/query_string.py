"""Reads the query string of a call, which Envoy puts into a header."""

from collections.abc import Mapping
from urllib.parse import parse_qsl

from infermesh_runtime.rpc.context import RpcContext

QUERY_KEY = "x-infermesh-query"


def read_query(context: RpcContext) -> Mapping[str, str]:
    """The parameters; of several with one name, the last."""
    sent = next((str(value) for key, value in context.invocation_metadata() if key == QUERY_KEY), "")
    return dict(parse_qsl(sent, keep_blank_values=True))
