"""Owns the synchronous client. Knows the contract's RPCs and nothing of what is behind the endpoint."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_client.request import Event, GenerateOptions, Prompt, build_request, event_of
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.status import from_rpc_error

DEFAULT_ENDPOINT = "127.0.0.1:8081"
_LOOPBACK = ("127.", "localhost:", "[::1]:", "unix:")


def channel_options(endpoint: str) -> Sequence[tuple[str, int]]:
    """gRPC's options for a connection to `endpoint`; one on this machine never goes through a proxy."""
    return [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)] if endpoint.startswith(_LOOPBACK) else CHANNEL_OPTIONS


class Client:
    """A connection to a router or a worker; made lazily, shared by threads, closed by `close` or `with`.

    Every call raises a class of infermesh_runtime.errors: Unavailable when nothing answers, DeadlineExceeded after
    `timeout_s` (seconds for one whole call; None waits as long as the endpoint is alive), otherwise what the endpoint
    answered.
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, *, timeout_s: float | None = None) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(endpoint, options=channel_options(endpoint))
        self._inference: Any = inference_pb2_grpc.InferenceServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._admin: Any = admin_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._endpoint: Any = admin_pb2_grpc.EndpointServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Iterator[Event]:
        """Streams the events of a generation; closing the iterator cancels the call."""
        request = build_request(prompt, options)
        for response in self._stream(self._inference.Generate, request):
            if (event := event_of(response)) is not None:
                yield event

    def health(self) -> inference_pb2.HealthReport:
        """State, device, models and load of the endpoint; a router's are those of its endpoints together."""
        with _translated_errors():
            report: inference_pb2.HealthReport = self._inference.Health(
                inference_pb2.HealthRequest(), timeout=self._timeout_s
            ).report
        return report

    def models(self) -> Sequence[inference_pb2.ModelStatus]:
        """The models that the endpoint serves or loads."""
        return tuple(self.health().models)

    def listing(self) -> admin_pb2.ListEndpointsResponse:
        """The router's endpoints, sorted by address, and its queues. Raises Unimplemented at a worker."""
        with _translated_errors():
            response: admin_pb2.ListEndpointsResponse = self._admin.ListEndpoints(
                admin_pb2.ListEndpointsRequest(), timeout=self._timeout_s
            )
        return response

    def watch_listing(self, *, min_interval_ms: int = 500) -> Iterator[admin_pb2.WatchEndpointsResponse]:
        """The same now and on every change; closing the iterator ends it."""
        request = admin_pb2.WatchEndpointsRequest(min_interval_ms=min_interval_ms)
        yield from self._stream(self._admin.WatchEndpoints, request)

    def endpoints(self) -> Sequence[admin_pb2.Endpoint]:
        """The router's endpoints, sorted by address. Raises Unimplemented at a worker."""
        return tuple((self.listing()).endpoints)

    def watch_endpoints(self, *, min_interval_ms: int = 500) -> Iterator[Sequence[admin_pb2.Endpoint]]:
        """The router's endpoints now and on every change; closing the iterator ends it."""
        for listing in self.watch_listing(min_interval_ms=min_interval_ms):
            yield tuple(listing.endpoints)

    def drain_endpoint(self, address: str, *, move_after_s: float | None = None) -> int:
        """Takes an endpoint out of service, and waits until nothing runs on it; how many streams were moved away.

        Streams that still run after `move_after_s` are moved; None waits for them. Raises NotFound.
        """
        request = admin_pb2.DrainEndpointRequest(address=address, move_after_s=move_after_s)
        with _translated_errors():
            return int((self._admin.DrainEndpoint(request, timeout=self._timeout_s)).moved)

    def resume_endpoint(self, address: str) -> None:
        """Takes a drained endpoint into service again. Raises NotFound."""
        request = admin_pb2.ResumeEndpointRequest(address=address)
        with _translated_errors():
            self._admin.ResumeEndpoint(request, timeout=self._timeout_s)

    def load_model(self, model: str, *, pinned: bool = False, keep_alive_s: float | None = None) -> Sequence[str]:
        """Loads a model, at a router on the endpoint that suits it; the models that were unloaded to make room.

        Raises NotFound, and ResourceExhausted when it does not fit.
        """
        request = admin_pb2.LoadModelRequest(model=model, pinned=pinned, keep_alive_s=keep_alive_s)
        with _translated_errors():
            return tuple((self._endpoint.LoadModel(request, timeout=self._timeout_s)).unloaded)

    def unload_model(self, model: str, *, force: bool = False) -> None:
        """Unloads a model. Raises NotFound, and FailedPrecondition while requests of it run, unless `force` is set."""
        request = admin_pb2.UnloadModelRequest(model=model, force=force)
        with _translated_errors():
            self._endpoint.UnloadModel(request, timeout=self._timeout_s)

    def close(self) -> None:
        """Closes the connection; running calls end with Cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _stream(self, method: Any, request: Any) -> Iterator[Any]:
        call = method(request, timeout=self._timeout_s)
        try:
            with _translated_errors():
                yield from call
        finally:
            call.cancel()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
