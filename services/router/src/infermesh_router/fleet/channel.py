"""Opens the gRPC channel to an endpoint."""

import grpc

from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.identity import MeshIdentity
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS, keepalive_timeout


def open_channel(
    address: str,
    *,
    identity: MeshIdentity | None = None,
    keepalive_s: float = 10.0,
    keepalive_timeout_s: float = 5.0,
    reconnect_max_s: float = 1.0,
) -> grpc.aio.Channel:
    """A channel with its own connection, which probes a silent peer and reconnects soon after a failure.

    It shows the endpoint our `identity`: the mesh token on each call, and our certificate if TLS is on.
    """
    options = dict(CHANNEL_OPTIONS) | dict(keepalive_timeout(int(keepalive_timeout_s * 1000)))
    options |= {
        "grpc.keepalive_time_ms": int(keepalive_s * 1000),
        "grpc.initial_reconnect_backoff_ms": 50,
        "grpc.min_reconnect_backoff_ms": 1000,
        "grpc.max_reconnect_backoff_ms": int(reconnect_max_s * 1000),
        "grpc.use_local_subchannel_pool": 1,
        "grpc.enable_retries": 0,  # the dispatcher retries, on another endpoint
        "grpc.http2.bdp_probe": 0,  # its pings cost more than they gain on a short link
        "grpc.enable_http_proxy": 0,  # workers are in the same network
    }
    return open_aio_channel(address, identity or MeshIdentity(), list(options.items()))
