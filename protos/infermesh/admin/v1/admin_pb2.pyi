import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from infermesh.inference.v1 import inference_pb2 as _inference_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BreakerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BREAKER_STATE_UNSPECIFIED: _ClassVar[BreakerState]
    BREAKER_STATE_CLOSED: _ClassVar[BreakerState]
    BREAKER_STATE_OPEN: _ClassVar[BreakerState]
    BREAKER_STATE_HALF_OPEN: _ClassVar[BreakerState]

class ImportState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMPORT_STATE_UNSPECIFIED: _ClassVar[ImportState]
    IMPORT_STATE_RUNNING: _ClassVar[ImportState]
    IMPORT_STATE_DONE: _ClassVar[ImportState]
    IMPORT_STATE_FAILED: _ClassVar[ImportState]
    IMPORT_STATE_CANCELLED: _ClassVar[ImportState]
BREAKER_STATE_UNSPECIFIED: BreakerState
BREAKER_STATE_CLOSED: BreakerState
BREAKER_STATE_OPEN: BreakerState
BREAKER_STATE_HALF_OPEN: BreakerState
IMPORT_STATE_UNSPECIFIED: ImportState
IMPORT_STATE_RUNNING: ImportState
IMPORT_STATE_DONE: ImportState
IMPORT_STATE_FAILED: ImportState
IMPORT_STATE_CANCELLED: ImportState

class ListEndpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEndpointsResponse(_message.Message):
    __slots__ = ("endpoints", "queues")
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    queues: _containers.RepeatedCompositeFieldContainer[ModelQueue]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[ModelQueue, _Mapping]]] = ...) -> None: ...

class WatchEndpointsRequest(_message.Message):
    __slots__ = ("min_interval_ms",)
    MIN_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    min_interval_ms: int
    def __init__(self, min_interval_ms: _Optional[int] = ...) -> None: ...

class WatchEndpointsResponse(_message.Message):
    __slots__ = ("endpoints", "queues")
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    queues: _containers.RepeatedCompositeFieldContainer[ModelQueue]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[ModelQueue, _Mapping]]] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("address", "connected", "report", "in_flight", "seconds_to_drain", "last_error", "breaker", "choices", "failovers", "queued_ms", "overhead_ms", "source")
    class ChoicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SECONDS_TO_DRAIN_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FIELD_NUMBER: _ClassVar[int]
    QUEUED_MS_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    address: str
    connected: bool
    report: _inference_pb2.HealthReport
    in_flight: int
    seconds_to_drain: float
    last_error: str
    breaker: BreakerState
    choices: _containers.ScalarMap[str, int]
    failovers: int
    queued_ms: float
    overhead_ms: float
    source: str
    def __init__(self, address: _Optional[str] = ..., connected: _Optional[bool] = ..., report: _Optional[_Union[_inference_pb2.HealthReport, _Mapping]] = ..., in_flight: _Optional[int] = ..., seconds_to_drain: _Optional[float] = ..., last_error: _Optional[str] = ..., breaker: _Optional[_Union[BreakerState, str]] = ..., choices: _Optional[_Mapping[str, int]] = ..., failovers: _Optional[int] = ..., queued_ms: _Optional[float] = ..., overhead_ms: _Optional[float] = ..., source: _Optional[str] = ...) -> None: ...

class ModelQueue(_message.Message):
    __slots__ = ("model", "waiting", "oldest_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    waiting: int
    oldest_ms: int
    def __init__(self, model: _Optional[str] = ..., waiting: _Optional[int] = ..., oldest_ms: _Optional[int] = ...) -> None: ...

class DrainEndpointRequest(_message.Message):
    __slots__ = ("address", "move_after_s")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MOVE_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    address: str
    move_after_s: float
    def __init__(self, address: _Optional[str] = ..., move_after_s: _Optional[float] = ...) -> None: ...

class DrainEndpointResponse(_message.Message):
    __slots__ = ("moved",)
    MOVED_FIELD_NUMBER: _ClassVar[int]
    moved: int
    def __init__(self, moved: _Optional[int] = ...) -> None: ...

class ResumeEndpointRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class ResumeEndpointResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RegisterEndpointRequest(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class RegisterEndpointResponse(_message.Message):
    __slots__ = ("address",)
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    address: str
    def __init__(self, address: _Optional[str] = ...) -> None: ...

class WatchRouterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRouterResponse(_message.Message):
    __slots__ = ("instance",)
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    instance: str
    def __init__(self, instance: _Optional[str] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model", "pinned", "keep_alive_s", "device")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    KEEP_ALIVE_S_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    model: str
    pinned: bool
    keep_alive_s: float
    device: str
    def __init__(self, model: _Optional[str] = ..., pinned: _Optional[bool] = ..., keep_alive_s: _Optional[float] = ..., device: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("unloaded",)
    UNLOADED_FIELD_NUMBER: _ClassVar[int]
    unloaded: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, unloaded: _Optional[_Iterable[str]] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model", "force")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    model: str
    force: bool
    def __init__(self, model: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StartImportRequest(_message.Message):
    __slots__ = ("source", "name", "weights", "force")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    source: str
    name: str
    weights: str
    force: bool
    def __init__(self, source: _Optional[str] = ..., name: _Optional[str] = ..., weights: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class StartImportResponse(_message.Message):
    __slots__ = ("model_import",)
    MODEL_IMPORT_FIELD_NUMBER: _ClassVar[int]
    model_import: ModelImport
    def __init__(self, model_import: _Optional[_Union[ModelImport, _Mapping]] = ...) -> None: ...

class ModelImport(_message.Message):
    __slots__ = ("import_id", "source", "name", "state", "step", "fraction", "done_bytes", "total_bytes", "message", "started_at", "ended_at")
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
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
    state: ImportState
    step: str
    fraction: float
    done_bytes: int
    total_bytes: int
    message: str
    started_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    def __init__(self, import_id: _Optional[str] = ..., source: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[_Union[ImportState, str]] = ..., step: _Optional[str] = ..., fraction: _Optional[float] = ..., done_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., message: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListImportsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListImportsResponse(_message.Message):
    __slots__ = ("imports",)
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    imports: _containers.RepeatedCompositeFieldContainer[ModelImport]
    def __init__(self, imports: _Optional[_Iterable[_Union[ModelImport, _Mapping]]] = ...) -> None: ...

class CancelImportRequest(_message.Message):
    __slots__ = ("import_id",)
    IMPORT_ID_FIELD_NUMBER: _ClassVar[int]
    import_id: str
    def __init__(self, import_id: _Optional[str] = ...) -> None: ...

class CancelImportResponse(_message.Message):
    __slots__ = ("model_import",)
    MODEL_IMPORT_FIELD_NUMBER: _ClassVar[int]
    model_import: ModelImport
    def __init__(self, model_import: _Optional[_Union[ModelImport, _Mapping]] = ...) -> None: ...

class RemoveModelRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class RemoveModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
