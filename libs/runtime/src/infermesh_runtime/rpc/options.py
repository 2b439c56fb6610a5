"""Owns the gRPC options that both ends of a connection must agree on. Knows no server and no client."""

MAX_MESSAGE_BYTES = 64 * 1024 * 1024 + 64 * 1024
"""A body of 64 MiB and what a message adds to it."""
MAX_METADATA_BYTES = 192 * 1024
"""More than Envoy lets through: 60 KiB of headers, and a path that it sends on twice."""

_MESSAGE_SIZE = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
_METADATA_SIZE = (
    # Browsers' cookies and gateways' tokens. gRPC refuses at random between the two, as RESOURCE_EXHAUSTED: no range.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
)


def keepalive_timeout(timeout_ms: int) -> tuple[tuple[str, int], ...]:
    """Closes a connection whose probe is not answered for so long.

    Both are set because gRPC 1.85 reads the first and waits for the second, which is a minute by default
    (grpc/grpc#39239).
    """
    return ("grpc.keepalive_timeout_ms", timeout_ms), ("grpc.http2.ping_timeout_ms", timeout_ms)


_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    *keepalive_timeout(10_000),
    ("grpc.http2.max_pings_without_data", 0),  # a stream may be silent for as long as a prefill takes
)

CHANNEL_OPTIONS = (*_MESSAGE_SIZE, *_KEEPALIVE)
"""For clients: a server that vanished without a word is noticed within 40 s, also in the middle of a silent stream."""

SERVER_OPTIONS = (
    *_MESSAGE_SIZE,
    *_METADATA_SIZE,
    *_KEEPALIVE,
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a second server behind it
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
"""For servers: a client that vanished frees what it holds within 40 s; clients may ping every 5 s, idle or not."""
