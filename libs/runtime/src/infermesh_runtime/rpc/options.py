"""The gRPC options that both ends of a connection must agree on: message sizes and keepalive."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024 + 64 * 1024
"""A body of 64 MiB plus what the message around it needs."""
MAX_METADATA_BYTES = 192 * 1024
"""More than Envoy lets through, which is 60 KiB of headers and a path that it sends twice."""

_MESSAGE_SIZE = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_METADATA_SIZE = (
    # Room for cookies and gateways' tokens. The limits are equal, because gRPC refuses sizes between them at random.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
)


def keepalive_timeout(timeout_ms: int) -> tuple[tuple[str, int], ...]:
    """Options that close a connection when a keepalive probe is not answered within `timeout_ms`.

    Both are needed: gRPC 1.85 reads the first but waits for the second, which is a minute by default (grpc/grpc#39239).
    """
    return ("grpc.keepalive_timeout_ms", timeout_ms), ("grpc.http2.ping_timeout_ms", timeout_ms)


_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    *keepalive_timeout(10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a stream is silent for as long as a prefill takes
)

CHANNEL_OPTIONS = (*_MESSAGE_SIZE, *_KEEPALIVE)
"""For clients: they notice within 40 s that a server has vanished, even on a silent stream."""

SERVER_OPTIONS = (
    *_MESSAGE_SIZE,
    *_METADATA_SIZE,
    *_KEEPALIVE,
    # Beyond these numbers of calls that we have not taken up yet, gRPC drops calls, at first at random, as CANCELLED.
    # The defaults are 1,000 and 3,000: of 2,500 calls at once 429 were lost. `CallLimit` refuses calls with a reason.
    ("grpc.server.max_pending_requests", 1 << 20),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 20),
    ("grpc.so_reuseport", 0),  # a port in use is an error, instead of being shared by two servers
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
"""For servers: they free what a vanished client holds within 40 s; clients may ping every 5 s, idle or not."""
