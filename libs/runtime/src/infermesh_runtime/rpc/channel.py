"""Opens gRPC channels between the processes of a mesh: with certificates, and with the mesh token on each call."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from infermesh_runtime.addresses import UNIX, grpc_target
from infermesh_runtime.rpc.identity import MeshIdentity, channel_credentials
from infermesh_runtime.rpc.mesh_token import token_metadata

Options = Sequence[tuple[str, Any]]


def open_aio_channel(
    address: str, identity: MeshIdentity, options: Options, credentials: grpc.ChannelCredentials | None = None
) -> grpc.aio.Channel:
    """A channel to "host:port" or "unix:PATH", for coroutines. The certificate files are read now.

    `credentials` are for a server that is not of the mesh itself; they replace the identity's certificates.
    """
    return _open(grpc.aio, address, identity, options, credentials)


def open_channel(
    address: str, identity: MeshIdentity, options: Options, credentials: grpc.ChannelCredentials | None = None
) -> grpc.Channel:
    """The same for threads."""
    return _open(grpc, address, identity, options, credentials)


def _open(
    module: Any, address: str, identity: MeshIdentity, options: Options, credentials: grpc.ChannelCredentials | None
) -> Any:
    if credentials is not None:
        channel = module.secure_channel(address, credentials, options=list(options))
    elif identity.tls is not None and not address.startswith(UNIX):
        named = (("grpc.ssl_target_name_override", identity.peer_name),) if identity.peer_name else ()
        channel = module.secure_channel(address, channel_credentials(identity.tls), options=[*options, *named])
    else:
        channel = module.insecure_channel(grpc_target(address), options=list(options))
    metadata = token_metadata(identity.token)
    return TokenChannel(channel, metadata) if metadata else channel


class TokenChannel:
    """A channel that adds metadata to each call.

    gRPC's own interceptors would do it too, but they stay between a stream and its reader for every message.
    """

    def __init__(self, inner: Any, metadata: Iterable[tuple[str, str]]) -> None:
        self._inner = inner
        self._metadata = tuple(metadata)

    def unary_unary(self, *arguments: Any, **options: Any) -> Any:
        return _carrying(self._inner.unary_unary(*arguments, **options), self._metadata)

    def unary_stream(self, *arguments: Any, **options: Any) -> Any:
        return _carrying(self._inner.unary_stream(*arguments, **options), self._metadata)

    def stream_unary(self, *arguments: Any, **options: Any) -> Any:
        return _carrying(self._inner.stream_unary(*arguments, **options), self._metadata)

    def stream_stream(self, *arguments: Any, **options: Any) -> Any:
        return _carrying(self._inner.stream_stream(*arguments, **options), self._metadata)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)


def _carrying(call: Any, carried: tuple[tuple[str, str], ...]) -> Any:
    def start(*arguments: Any, metadata: Iterable[tuple[str, Any]] | None = None, **options: Any) -> Any:
        return call(*arguments, metadata=(*(metadata or ()), *carried), **options)

    return start
