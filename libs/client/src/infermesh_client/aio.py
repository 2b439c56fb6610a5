"""Owns the asynchronous client. Knows the contract's RPCs and nothing of what is behind the endpoint."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_client.client import DEFAULT_ENDPOINT, channel_options
from infermesh_client.request import Event, GenerateOptions, Prompt, build_request, event_of
from infermesh_runtime.rpc.status import from_rpc_error


class AsyncClient:
    """A connection to a router or a worker; to be made in a running event loop, closed by `close` or `async with`.

    Calls and their errors are those of Client.
    """

    def __init__(self, endpoint: str = DEFAULT_ENDPOINT, *, timeout_s: float | None = None) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._channel = grpc.aio.insecure_channel(endpoint, options=channel_options(endpoint))
        self._inference: Any = inference_pb2_grpc.InferenceServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._admin: Any = admin_pb2_grpc.AdminServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self._endpoint: Any = admin_pb2_grpc.EndpointServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated

    async def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> AsyncGenerator[Event]:
        """Streams the events of a generation; `aclose` or cancelling the task cancels the call."""
        request = build_request(prompt, options)
        async with aclosing(self._stream(self._inference.Generate, request)) as responses:
            async for response in responses:
                if (event := event_of(response)) is not None:
                    yield event

    async def health(self) -> inference_pb2.HealthReport:
        """State, device, models and load of the endpoint; a router's are those of its endpoints together."""
        with _translated_errors():
            response = await self._inference.Health(inference_pb2.HealthRequest(), timeout=self._timeout_s)
        report: inference_pb2.HealthReport = response.report
        return report

    async def models(self) -> Sequence[inference_pb2.ModelStatus]:
        """The models that the endpoint serves or loads."""
        return tuple((await self.health()).models)

    async def listing(self) -> admin_pb2.ListEndpointsResponse:
        """The router's endpoints, sorted by address, and its queues. Raises Unimplemented at a worker."""
        with _translated_errors():
            response: admin_pb2.ListEndpointsResponse = await self._admin.ListEndpoints(
                admin_pb2.ListEndpointsRequest(), timeout=self._timeout_s
            )
        return response

    async def watch_listing(self, *, min_interval_ms: int = 500) -> AsyncGenerator[admin_pb2.WatchEndpointsResponse]:
        """The same now and on every change; `aclose` ends it."""
        request = admin_pb2.WatchEndpointsRequest(min_interval_ms=min_interval_ms)
        async with aclosing(self._stream(self._admin.WatchEndpoints, request)) as responses:
            async for response in responses:
                yield response

    async def endpoints(self) -> Sequence[admin_pb2.Endpoint]:
        """The router's endpoints, sorted by address. Raises Unimplemented at a worker."""
        return tuple((await self.listing()).endpoints)

    async def watch_endpoints(self, *, min_interval_ms: int = 500) -> AsyncGenerator[Sequence[admin_pb2.Endpoint]]:
        """The router's endpoints now and on every change; `aclose` ends it."""
        async with aclosing(self.watch_listing(min_interval_ms=min_interval_ms)) as listings:
            async for listing in listings:
                yield tuple(listing.endpoints)

    async def drain_endpoint(self, address: str, *, move_after_s: float | None = None) -> int:
        """Takes an endpoint out of service, and waits until nothing runs on it; how many streams were moved away.

        Streams that still run after `move_after_s` are moved; None waits for them. Raises NotFound.
        """
        request = admin_pb2.DrainEndpointRequest(address=address, move_after_s=move_after_s)
        with _translated_errors():
            return int((await self._admin.DrainEndpoint(request, timeout=self._timeout_s)).moved)

    async def resume_endpoint(self, address: str) -> None:
        """Takes a drained endpoint into service again. Raises NotFound."""
        request = admin_pb2.ResumeEndpointRequest(address=address)
        with _translated_errors():
            await self._admin.ResumeEndpoint(request, timeout=self._timeout_s)

    async def load_model(self, model: str, *, pinned: bool = False, keep_alive_s: float | None = None) -> Sequence[str]:
        """Loads a model, at a router on the endpoint that suits it; the models that were unloaded to make room.

        Raises NotFound, and ResourceExhausted when it does not fit.
        """
        request = admin_pb2.LoadModelRequest(model=model, pinned=pinned, keep_alive_s=keep_alive_s)
        with _translated_errors():
            return tuple((await self._endpoint.LoadModel(request, timeout=self._timeout_s)).unloaded)

    async def unload_model(self, model: str, *, force: bool = False) -> None:
        """Unloads a model. Raises NotFound, and FailedPrecondition while requests of it run, unless `force` is set."""
        request = admin_pb2.UnloadModelRequest(model=model, force=force)
        with _translated_errors():
            await self._endpoint.UnloadModel(request, timeout=self._timeout_s)

    async def close(self) -> None:
        """Closes the connection; running calls end with Cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _stream(self, method: Any, request: Any) -> AsyncGenerator[Any]:
        call = method(request, timeout=self._timeout_s)
        try:
            with _translated_errors():
                async for response in call:
                    yield response
        finally:
            call.cancel()


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
