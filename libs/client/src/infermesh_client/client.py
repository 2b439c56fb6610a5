"""Synchronous client of a router or a worker, over gRPC."""
# Made from aio.py by tools/sync_client.py: edit that file, then run `make sync-client`.

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self, Unpack

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_client import speech_request as speech
from infermesh_client.answer import Answer, AnswerReader
from infermesh_client.connecting import DEFAULT_ENDPOINT, translated_errors
from infermesh_client.infer_request import arrays_of, build_infer_request
from infermesh_client.request import Event, GenerateOptions, Prompt, build_request, event_of
from infermesh_client.target import channel_options, key_metadata, read_target
from infermesh_client.text_request import (
    EmbedOptions,
    Texts,
    Truncation,
    build_embed_request,
    build_score_request,
    scores_of,
    vectors_of,
)
from infermesh_runtime.answer_parsing.parts import Part
from infermesh_runtime.rpc.channel import open_channel
from infermesh_runtime.rpc.identity import MeshIdentity
from infermesh_runtime.tensors import Array


class Client:
    """A connection to a router or a worker at `endpoint`: host:port, unix:PATH, or grpcs://host:port for TLS.

    `tls_ca` is the path of the PEM file of the CA to trust with grpcs://; without it the usual public CAs are trusted.

    `identity` is what to show a worker or a router's admin address: the mesh token, a certificate of the mesh.
    Threads may share a client. The connection opens with the first call. `close` closes it, and so does
    leaving a `with` block.

    `api_key` is sent with every stream; a mesh that has keys answers `generate` only with one.

    `timeout_s` limits each whole call, a stream included, in seconds; None sets no limit. Every call raises a class of
    infermesh_runtime.errors: Unavailable when nothing answers at `endpoint`, DeadlineExceeded after `timeout_s`, or the
    error that the endpoint returned.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        timeout_s: float | None = None,
        api_key: str = "",
        identity: MeshIdentity | None = None,
        tls_ca: str = "",
    ) -> None:
        self.endpoint = endpoint
        self.api_key = api_key
        self.identity = identity or MeshIdentity()
        self.timeout_s = timeout_s
        self.tls_ca = tls_ca
        self._metadata = key_metadata(api_key)
        target = read_target(endpoint, tls_ca)
        options = channel_options(target.address)
        self._channel = open_channel(target.address, self.identity, options, target.credentials)
        self._inference_stub: Any = inference_pb2_grpc.InferenceServiceStub(self._channel)
        self._admin_stub: Any = admin_pb2_grpc.AdminServiceStub(self._channel)
        self._endpoint_stub: Any = admin_pb2_grpc.EndpointServiceStub(self._channel)

    def generate(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Generator[Event]:
        """Sends a prompt and yields the events of the answer as they arrive.

        The events are one Started, any number of Delta, and one Finished for each choice. The request is sent when the
        first event is asked for; closing the iterator cancels it. `GenerateOptions` lists the options.

        Raises InvalidArgument for a bad prompt or option, before anything is sent.
        """
        with closing(self.events(build_request(prompt, options))) as events:
            yield from events

    def events(self, request: inference_pb2.GenerateRequest) -> Generator[Event]:
        """Sends a request that is already built; yields the events of the answer as `generate` does."""
        with closing(self._stream(self._inference_stub.Generate, request)) as responses:
            for response in responses:
                if (event := event_of(response)) is not None:
                    yield event

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] = (),
        device: str = "",
        priority: int = 0,
    ) -> dict[str, Array]:
        """Runs a model on arrays, by the names of its inputs, and returns its outputs; `outputs` names those wanted.

        `device` and `priority` are as in InferRequest. Raises InvalidArgument, which names the tensor, for one that the
        model does not take.
        """
        request = build_infer_request(model, inputs, outputs=outputs, device=device, priority=priority)
        with translated_errors():
            response = self._inference_stub.Infer(request, timeout=self.timeout_s, metadata=self._metadata)
            return arrays_of(response)

    def chat(self, messages: Prompt, **options: Unpack[GenerateOptions]) -> Answer:
        """Answers a conversation: text, reasoning and tool calls, read out of what the model writes.

        `tools` says what the model may call. `Answer.message()` goes back with the results of its calls.
        Raises InvalidArgument for a bad prompt or option, before anything is sent.
        """
        reader = AnswerReader(messages, options)
        with closing(self._read(reader)) as parts:
            for _ in parts:
                pass
        return reader.answer

    def chat_parts(self, messages: Prompt, **options: Unpack[GenerateOptions]) -> Generator[Part]:
        """Answers as `chat` does, and yields the parts of the answer as they become certain."""
        with closing(self._read(AnswerReader(messages, options))) as parts:
            yield from parts

    def embed(self, texts: Texts, *, model: str = "", **options: Unpack[EmbedOptions]) -> Array:
        """Turns texts into vectors: float32 [texts, dimensions]. `EmbedOptions` lists the options.

        Without a model, the endpoint's only one that embeds. Raises InvalidArgument, which names the text or option.
        """
        request = build_embed_request(model, texts, options)
        with translated_errors():
            response = self._inference_stub.Embed(request, timeout=self.timeout_s, metadata=self._metadata)
            return vectors_of(response)

    def score(
        self, query: str, texts: Sequence[str], *, model: str = "", truncation: Truncation = "none", device: str = ""
    ) -> Array:
        """Says how well each text answers a query: float32 [texts], larger for better ones.

        Without a model, the endpoint's only one that scores. Raises InvalidArgument, which names the text.
        """
        request = build_score_request(model, query, texts, truncation=truncation, device=device)
        with translated_errors():
            response = self._inference_stub.Score(request, timeout=self.timeout_s, metadata=self._metadata)
            return scores_of(response)

    def transcribe(
        self, sound: speech.Sound, *, model: str = "", **options: Unpack[speech.TranscribeOptions]
    ) -> speech.Transcript:
        """Turns speech into text: that of a sound file (its path or bytes) or of samples. See `TranscribeOptions`."""
        transcript = speech.Transcript()
        with closing(self.transcribe_segments(sound, model=model, into=transcript, **options)) as segments:
            for _ in segments:
                pass
        return transcript

    def transcribe_segments(
        self,
        sound: speech.Sound,
        *,
        model: str = "",
        into: speech.Transcript | None = None,
        **options: Unpack[speech.TranscribeOptions],
    ) -> Generator[speech.Segment]:
        """The same, and yields each segment as it comes; `into` gets all that is told."""
        transcript = into or speech.Transcript()
        request = speech.build_transcribe_request(model, sound, options)
        with closing(self._stream(self._inference_stub.Transcribe, request)) as responses:
            for response in responses:
                if (segment := transcript.take(response)) is not None:
                    yield segment

    def speak(self, text: str, *, model: str = "", **options: Unpack[speech.SpeakOptions]) -> speech.Speech:
        """Turns text into speech. Without a model, the endpoint's only one that speaks. See `SpeakOptions`."""
        spoken, request = speech.Speech(), speech.build_speak_request(model, text, options)
        with closing(self._stream(self._inference_stub.Speak, request)) as responses:
            for response in responses:
                spoken.take(response)
        return spoken

    def health(self) -> inference_pb2.HealthReport:
        """Returns the endpoint's state, device, models and load. A router reports the totals of its endpoints."""
        with translated_errors():
            response = self._inference_stub.Health(inference_pb2.HealthRequest(), timeout=self.timeout_s)
            report: inference_pb2.HealthReport = response.report
            return report

    def watch_health(self, *, min_interval_ms: int = 100) -> Generator[inference_pb2.HealthReport]:
        """Yields the endpoint's health now and after every change, until the iterator is closed.

        Changes within `min_interval_ms` milliseconds are merged into one.
        """
        request = inference_pb2.WatchHealthRequest(min_interval_ms=min_interval_ms)
        with closing(self._stream(self._inference_stub.WatchHealth, request)) as responses:
            for response in responses:
                yield response.report

    def models(self) -> Sequence[inference_pb2.ModelStatus]:
        """Returns the models that the endpoint serves or is loading."""
        return tuple((self.health()).models)

    def listing(self) -> admin_pb2.ListEndpointsResponse:
        """Returns the router's endpoints, sorted by address, and its queues. Raises Unimplemented for a worker."""
        with translated_errors():
            response: admin_pb2.ListEndpointsResponse = self._admin_stub.ListEndpoints(
                admin_pb2.ListEndpointsRequest(), timeout=self.timeout_s
            )
        return response

    def watch_listing(self, *, min_interval_ms: int = 500) -> Generator[admin_pb2.WatchEndpointsResponse]:
        """Yields the router's endpoints and queues now and after every change, until the iterator is closed.

        Changes within `min_interval_ms` milliseconds are merged into one. Raises Unimplemented for a worker.
        """
        request = admin_pb2.WatchEndpointsRequest(min_interval_ms=min_interval_ms)
        with closing(self._stream(self._admin_stub.WatchEndpoints, request)) as responses:
            yield from responses

    def endpoints(self) -> Sequence[admin_pb2.Endpoint]:
        """Returns the router's endpoints, sorted by address. Raises Unimplemented for a worker."""
        return tuple((self.listing()).endpoints)

    def watch_endpoints(self, *, min_interval_ms: int = 500) -> Generator[Sequence[admin_pb2.Endpoint]]:
        """Yields the router's endpoints now and after every change, as `watch_listing` does."""
        with closing(self.watch_listing(min_interval_ms=min_interval_ms)) as listings:
            for listing in listings:
                yield tuple(listing.endpoints)

    def drain_endpoint(self, address: str, *, move_after_s: float | None = None) -> int:
        """Takes the endpoint at `address` (host:port) out of service and waits until no request runs on it.

        Streams that are still running after `move_after_s` seconds are moved to other endpoints; None lets them finish.
        Returns the number of streams moved. Raises NotFound when the router has no such endpoint.
        """
        request = admin_pb2.DrainEndpointRequest(address=address, move_after_s=move_after_s)
        with translated_errors():
            return int((self._admin_stub.DrainEndpoint(request, timeout=self.timeout_s)).moved)

    def resume_endpoint(self, address: str) -> None:
        """Puts a drained endpoint back into service. Raises NotFound when the router has no such endpoint."""
        request = admin_pb2.ResumeEndpointRequest(address=address)
        with translated_errors():
            self._admin_stub.ResumeEndpoint(request, timeout=self.timeout_s)

    def load_model(
        self, model: str, *, pinned: bool = False, keep_alive_s: float | None = None, device: str = ""
    ) -> Sequence[str]:
        """Loads a model into memory and waits until it is ready; a router chooses the endpoint.

        `pinned` keeps it loaded until it is unloaded by request. `keep_alive_s` unloads it after that many seconds
        without a request; 0 never does, None keeps the endpoint's own setting. `device` tells a router where: a kind of
        device, such as "gpu", or the address of an endpoint.

        Returns the names of the models that were unloaded to make room. Raises NotFound when there is no such model,
        and ResourceExhausted when it does not fit.
        """
        request = admin_pb2.LoadModelRequest(model=model, pinned=pinned, keep_alive_s=keep_alive_s, device=device)
        with translated_errors():
            return tuple((self._endpoint_stub.LoadModel(request, timeout=self.timeout_s)).unloaded)

    def unload_model(self, model: str, *, force: bool = False) -> None:
        """Unloads a model and waits until its memory is free; a router unloads it from all of its endpoints.

        `force` ends the requests that are using it; a router moves them. Raises NotFound when it is not loaded, and
        FailedPrecondition when it is in use and `force` is not set.
        """
        request = admin_pb2.UnloadModelRequest(model=model, force=force)
        with translated_errors():
            self._endpoint_stub.UnloadModel(request, timeout=self.timeout_s)

    def close(self) -> None:
        """Closes the connection; running calls raise Cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, reader: AnswerReader) -> Generator[Part]:
        with closing(self.events(reader.request)) as events:
            for event in events:
                yield from reader.take(event)

    def _stream(self, method: Any, request: Any) -> Generator[Any]:
        call = method(request, timeout=self.timeout_s, metadata=self._metadata)
        try:
            with translated_errors():
                yield from call
        finally:
            call.cancel()
