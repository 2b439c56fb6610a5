import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from infermesh.admin.v1 import admin_pb2 as _admin_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListEndpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEndpointsResponse(_message.Message):
    __slots__ = ("endpoints", "may_manage")
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    MAY_MANAGE_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    may_manage: bool
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., may_manage: _Optional[bool] = ...) -> None: ...

class ListQueuesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListQueuesResponse(_message.Message):
    __slots__ = ("queues",)
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    def __init__(self, queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ...) -> None: ...

class Queue(_message.Message):
    __slots__ = ("model", "waiting", "oldest_s", "limit")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_S_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    model: str
    waiting: int
    oldest_s: float
    limit: int
    def __init__(self, model: _Optional[str] = ..., waiting: _Optional[int] = ..., oldest_s: _Optional[float] = ..., limit: _Optional[int] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("address", "name", "device", "runtime", "version", "state", "message", "breaker", "drain_s", "running", "waiting", "kv_cache_usage", "prefill_tokens_per_s", "decode_tokens_per_s", "models", "available", "in_flight", "failovers", "choices", "generated_tokens", "started_at")
    class ChoicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    DRAIN_S_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_USAGE_FIELD_NUMBER: _ClassVar[int]
    PREFILL_TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    DECODE_TOKENS_PER_S_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    GENERATED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    address: str
    name: str
    device: Device
    runtime: str
    version: str
    state: str
    message: str
    breaker: str
    drain_s: float
    running: int
    waiting: int
    kv_cache_usage: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    models: _containers.RepeatedCompositeFieldContainer[Model]
    available: _containers.RepeatedCompositeFieldContainer[Model]
    in_flight: int
    failovers: float
    choices: _containers.ScalarMap[str, float]
    generated_tokens: float
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, address: _Optional[str] = ..., name: _Optional[str] = ..., device: _Optional[_Union[Device, _Mapping]] = ..., runtime: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[str] = ..., message: _Optional[str] = ..., breaker: _Optional[str] = ..., drain_s: _Optional[float] = ..., running: _Optional[int] = ..., waiting: _Optional[int] = ..., kv_cache_usage: _Optional[float] = ..., prefill_tokens_per_s: _Optional[float] = ..., decode_tokens_per_s: _Optional[float] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., available: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., in_flight: _Optional[int] = ..., failovers: _Optional[float] = ..., choices: _Optional[_Mapping[str, float]] = ..., generated_tokens: _Optional[float] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("kind", "name", "memory_total_bytes", "memory_free_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    memory_total_bytes: float
    memory_free_bytes: float
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., memory_total_bytes: _Optional[float] = ..., memory_free_bytes: _Optional[float] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "kind", "state", "size_bytes", "memory_bytes", "context_length", "sequences", "pinned", "load_fraction", "load_left_s", "takes_images", "voices")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    LOAD_FRACTION_FIELD_NUMBER: _ClassVar[int]
    LOAD_LEFT_S_FIELD_NUMBER: _ClassVar[int]
    TAKES_IMAGES_FIELD_NUMBER: _ClassVar[int]
    VOICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    state: str
    size_bytes: float
    memory_bytes: float
    context_length: int
    sequences: int
    pinned: bool
    load_fraction: float
    load_left_s: float
    takes_images: bool
    voices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., state: _Optional[str] = ..., size_bytes: _Optional[float] = ..., memory_bytes: _Optional[float] = ..., context_length: _Optional[int] = ..., sequences: _Optional[int] = ..., pinned: _Optional[bool] = ..., load_fraction: _Optional[float] = ..., load_left_s: _Optional[float] = ..., takes_images: _Optional[bool] = ..., voices: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("endpoints", "queues", "time", "imports")
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    queues: _containers.RepeatedCompositeFieldContainer[Queue]
    time: float
    imports: _containers.RepeatedCompositeFieldContainer[Import]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[Queue, _Mapping]]] = ..., time: _Optional[float] = ..., imports: _Optional[_Iterable[_Union[Import, _Mapping]]] = ...) -> None: ...

class StartImportRequest(_message.Message):
    __slots__ = ("source", "name", "endpoint", "weights", "force")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    source: str
    name: str
    endpoint: str
    weights: str
    force: bool
    def __init__(self, source: _Optional[str] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., weights: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class Import(_message.Message):
    __slots__ = ("import_id", "source", "name", "endpoint", "state", "step", "fraction", "done_bytes", "total_bytes", "message", "started_at", "ended_at")
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    DONE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    import_id: str
    source: str
    name: str
    endpoint: str
    state: str
    step: str
    fraction: float
    done_bytes: float
    total_bytes: float
    message: str
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    def __init__(self, import_id: _Optional[str] = ..., source: _Optional[str] = ..., name: _Optional[str] = ..., endpoint: _Optional[str] = ..., state: _Optional[str] = ..., step: _Optional[str] = ..., fraction: _Optional[float] = ..., done_bytes: _Optional[float] = ..., total_bytes: _Optional[float] = ..., message: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListImportsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListImportsResponse(_message.Message):
    __slots__ = ("imports",)
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    imports: _containers.RepeatedCompositeFieldContainer[Import]
    def __init__(self, imports: _Optional[_Iterable[_Union[Import, _Mapping]]] = ...) -> None: ...

class CancelImportRequest(_message.Message):
    __slots__ = ("import_id",)
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    import_id: str
    def __init__(self, import_id: _Optional[str] = ...) -> None: ...

class RemoveModelRequest(_message.Message):
    __slots__ = ("model", "endpoint")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    model: str
    endpoint: str
    def __init__(self, model: _Optional[str] = ..., endpoint: _Optional[str] = ...) -> None: ...

class RemoveModelResponse(_message.Message):
    __slots__ = ("endpoints",)
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, endpoints: _Optional[_Iterable[str]] = ...) -> None: ...

class ChoiceEvent(_message.Message):
    __slots__ = ("time", "request_id", "model", "endpoint", "reason", "score", "seconds", "runners_up")
    TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUNNERS_UP_FIELD_NUMBER: _ClassVar[int]
    time: float
    request_id: str
    model: str
    endpoint: str
    reason: str
    score: float
    seconds: float
    runners_up: _containers.RepeatedCompositeFieldContainer[Candidate]
    def __init__(self, time: _Optional[float] = ..., request_id: _Optional[str] = ..., model: _Optional[str] = ..., endpoint: _Optional[str] = ..., reason: _Optional[str] = ..., score: _Optional[float] = ..., seconds: _Optional[float] = ..., runners_up: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("endpoint", "score", "seconds")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    score: float
    seconds: float
    def __init__(self, endpoint: _Optional[str] = ..., score: _Optional[float] = ..., seconds: _Optional[float] = ...) -> None: ...

class FailoverEvent(_message.Message):
    __slots__ = ("time", "request_id", "model", "from_endpoint", "to_endpoint", "reason", "after_tokens")
    TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FROM_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TO_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AFTER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    time: float
    request_id: str
    model: str
    from_endpoint: str
    to_endpoint: str
    reason: str
    after_tokens: int
    def __init__(self, time: _Optional[float] = ..., request_id: _Optional[str] = ..., model: _Optional[str] = ..., from_endpoint: _Optional[str] = ..., to_endpoint: _Optional[str] = ..., reason: _Optional[str] = ..., after_tokens: _Optional[int] = ...) -> None: ...

class RestartEvent(_message.Message):
    __slots__ = ("time", "endpoint", "what", "model")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    time: float
    endpoint: str
    what: str
    model: str
    def __init__(self, time: _Optional[float] = ..., endpoint: _Optional[str] = ..., what: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class StateEvent(_message.Message):
    __slots__ = ("time", "endpoint", "state", "before", "breaker", "message", "breaker_before")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BREAKER_BEFORE_FIELD_NUMBER: _ClassVar[int]
    time: float
    endpoint: str
    state: str
    before: str
    breaker: str
    message: str
    breaker_before: str
    def __init__(self, time: _Optional[float] = ..., endpoint: _Optional[str] = ..., state: _Optional[str] = ..., before: _Optional[str] = ..., breaker: _Optional[str] = ..., message: _Optional[str] = ..., breaker_before: _Optional[str] = ...) -> None: ...

class LostEvent(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: int
    def __init__(self, events: _Optional[int] = ...) -> None: ...

class ListReceiptsRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: _Optional[int] = ...) -> None: ...

class ListReceiptsResponse(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, receipts: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("request_id",)
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    def __init__(self, request_id: _Optional[str] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("request_id", "call", "model", "alias", "arrived_at", "status", "error", "endpoint", "device", "reason", "score", "seconds", "runners_up", "queued_ms", "loading_ms", "overhead_ms", "first_token_ms", "prefill_ms", "decode_ms", "total_ms", "prompt_tokens", "completion_tokens", "cached_tokens", "sampling", "seed", "ignored_fields", "failovers", "retries", "finish_reasons", "others")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    ARRIVED_AT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    RUNNERS_UP_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    LOADING_MS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FIELD_NUMBER: _ClassVar[int]
    RETRIES_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASONS_FIELD_NUMBER: _ClassVar[int]
    OTHERS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    call: str
    model: str
    alias: str
    arrived_at: _timestamp_pb2.Timestamp
    status: str
    error: str
    endpoint: str
    device: str
    reason: str
    score: float
    seconds: float
    runners_up: _containers.RepeatedCompositeFieldContainer[Candidate]
    queued_ms: float
    loading_ms: float
    overhead_ms: float
    first_token_ms: float
    prefill_ms: float
    decode_ms: float
    total_ms: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    sampling: _containers.RepeatedCompositeFieldContainer[SamplingValue]
    seed: int
    ignored_fields: _containers.RepeatedScalarFieldContainer[str]
    failovers: _containers.RepeatedCompositeFieldContainer[Move]
    retries: _containers.RepeatedCompositeFieldContainer[FailedTry]
    finish_reasons: _containers.RepeatedScalarFieldContainer[str]
    others: _containers.RepeatedCompositeFieldContainer[Receipt]
    def __init__(self, request_id: _Optional[str] = ..., call: _Optional[str] = ..., model: _Optional[str] = ..., alias: _Optional[str] = ..., arrived_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[str] = ..., error: _Optional[str] = ..., endpoint: _Optional[str] = ..., device: _Optional[str] = ..., reason: _Optional[str] = ..., score: _Optional[float] = ..., seconds: _Optional[float] = ..., runners_up: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., queued_ms: _Optional[float] = ..., loading_ms: _Optional[float] = ..., overhead_ms: _Optional[float] = ..., first_token_ms: _Optional[float] = ..., prefill_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., total_ms: _Optional[float] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ..., sampling: _Optional[_Iterable[_Union[SamplingValue, _Mapping]]] = ..., seed: _Optional[int] = ..., ignored_fields: _Optional[_Iterable[str]] = ..., failovers: _Optional[_Iterable[_Union[Move, _Mapping]]] = ..., retries: _Optional[_Iterable[_Union[FailedTry, _Mapping]]] = ..., finish_reasons: _Optional[_Iterable[str]] = ..., others: _Optional[_Iterable[_Union[Receipt, _Mapping]]] = ...) -> None: ...

class SamplingValue(_message.Message):
    __slots__ = ("name", "value", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    source: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., source: _Optional[str] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("from_endpoint", "to_endpoint", "reason", "after_tokens", "at_ms")
    FROM_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TO_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AFTER_TOKENS_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    from_endpoint: str
    to_endpoint: str
    reason: str
    after_tokens: int
    at_ms: float
    def __init__(self, from_endpoint: _Optional[str] = ..., to_endpoint: _Optional[str] = ..., reason: _Optional[str] = ..., after_tokens: _Optional[int] = ..., at_ms: _Optional[float] = ...) -> None: ...

class FailedTry(_message.Message):
    __slots__ = ("endpoint", "reason")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    reason: str
    def __init__(self, endpoint: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class GetPageRequest(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...
