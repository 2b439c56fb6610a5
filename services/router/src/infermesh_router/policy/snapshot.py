"""The policy's inputs: an endpoint at one moment, and what a request wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import attrgetter

from infermesh_router.policy.fast_replace import FastReplace
from infermesh_router.policy.model_load import ModelLoad, shared_drain_s


class DeviceKind(StrEnum):
    """Kind of an endpoint's device. A router reports UNKNOWN, because it may have several kinds behind it."""

    CPU = "cpu"
    XPU = "xpu"
    CUDA = "cuda"
    UNKNOWN = "unknown"


class EndpointState(StrEnum):
    """Whether an endpoint takes requests; UNKNOWN before its first report."""

    UNKNOWN = "unknown"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


_IDLE = ModelLoad()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSnapshot:
    """An endpoint as the router sees it at one moment."""

    address: str
    connected: bool = True
    state: EndpointState = EndpointState.READY
    device: DeviceKind = DeviceKind.CPU
    models: frozenset[str] = frozenset()
    """Models that it serves or is loading."""
    ready_models: frozenset[str] = frozenset()
    """Models that it can answer with now."""
    total: ModelLoad = _IDLE
    """The load of all its models together."""
    loads: Mapping[str, ModelLoad] = field(default_factory=dict)
    """Model → its own load. Models without one, as of older endpoints, count with the total."""
    full_models: frozenset[str] = frozenset()
    """Models of which it sent a request back since its last report."""
    in_flight: int = 0
    """Requests that this router has running on it."""
    memory_total_bytes: int = 0
    """0 if unknown."""
    memory_free_bytes: int = 0
    evictable_bytes: int = 0
    """Memory that unloading every idle, unpinned model would free."""
    available: Mapping[str, int] = field(default_factory=dict)
    """Model → bytes of memory that loading it takes, for every model it could load, including loaded ones."""
    blind_models: frozenset[str] = frozenset()
    """Models that it has or could load, and of which it reports that they take no images."""
    model_sizes: Mapping[str, int] = field(default_factory=dict)
    """Model → bytes of its weights, for every model it has or could load; unknown sizes are left out."""
    breaker_open: bool = False
    """Whether its circuit breaker refuses requests now."""
    probing: bool = False
    """Whether the breaker refuses them only until a request that probes the endpoint has its first token."""
    runtime: str = ""
    """What runs its models, for example "openvino 2026.4.1"; empty if unknown."""
    request_s: Mapping[str, float] = field(default_factory=dict)
    """Model → measured time of a typical request, in seconds, for models that it runs or ran (see `speed`)."""

    def with_load(
        self,
        *,
        connected: bool,
        total: ModelLoad,
        loads: Mapping[str, ModelLoad],
        full_models: frozenset[str],
        in_flight: int,
        breaker_open: bool,
        probing: bool,
    ) -> "EndpointSnapshot":
        """A copy with these values. `dataclasses.replace` takes three times as long, and this runs per request."""
        other = object.__new__(EndpointSnapshot)
        for write, value in zip(_WRITES, _READ_ALL(self), strict=True):
            write(other, value)
        _set(other, "connected", connected)
        _set(other, "total", total)
        _set(other, "loads", loads)
        _set(other, "full_models", full_models)
        _set(other, "in_flight", in_flight)
        _set(other, "breaker_open", breaker_open)
        _set(other, "probing", probing)
        return other

    def load_of(self, model: str) -> ModelLoad:
        """The model's load; the total if it reports none, or for an empty name."""
        load = self.loads.get(model)
        if load is not None:
            return load
        return replace(self.total, full=True) if model in self.full_models else self.total

    def drain_of(self, model: str) -> tuple[float, float]:
        """The model's seconds to drain, and how many times longer more of its work takes: see `shared_drain_s`."""
        load = self.loads.get(model)
        if load is None:
            return self.seconds_to_drain, 1.0
        return shared_drain_s(load.work_s, (other.work_s for name, other in self.loads.items() if name != model))

    @property
    def seconds_to_drain(self) -> float:
        """Estimated time until it has finished all its work: that of each model in turn, as they share its device."""
        if self.loads:
            return sum(load.work_s for load in self.loads.values())
        return self.total.work_s


_READ_ALL = attrgetter(*(f.name for f in fields(EndpointSnapshot)))
_WRITES = [getattr(EndpointSnapshot, f.name).__set__ for f in fields(EndpointSnapshot)]
_set = object.__setattr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one request needs from an endpoint, and what the router knows about it."""

    model: str = ""
    """Empty means the only model there is."""
    device: str = ""
    """ "" or "auto", "gpu", "cpu", "xpu", "cuda", "cpu,xpu", "cpu,cuda", or an endpoint's address."""
    prompt_tokens: int = 0
    """Estimated length of the prompt."""
    sequences: int = 1
    session_endpoint: str = ""
    """Address of the endpoint that served this session's last request."""
    session_key: tuple[int, ...] = ()
    """Hash of the session's id if another router may have served it (see `session_hash`); else empty."""
    tried: frozenset[str] = frozenset()
    """Addresses of the endpoints on which this request has failed."""
    alias: str = ""
    """The alias that the client used for `model`; empty if it used none."""
    blocks: tuple[int, ...] = ()
    """Hashes of the prompt's blocks (see `prefix_hash`); empty for a prompt shorter than one block."""
    client: str = ""
    """The client, so that waiting requests are served fairly; empty if unknown."""
    member: str = ""
    """Whom the client sends it for; members share the client's turns."""
    priority: int = 0
    """Waiting requests with a larger priority are served first."""
    max_tokens: int = 0
    """Most tokens to generate for each sequence; 0 if the request sets no limit."""
    chat: bool = False
    """Whether the prompt is a conversation, which base models do not take."""
    image: str = ""
    """Where the request has its first image, as the contract names it; empty if it has none."""
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    """Address → prompt tokens that we expect its prefix cache to hold; endpoints with none are left out."""
    preferred_device: str = ""
    """ "gpu" or "cpu" if a rule prefers one (see `preference`), else ""."""
    preference_reason: str = ""
    """Which kind of rule prefers it: "device_preference" or "size_rule"."""
    overflowing: bool = False
    """Whether requests that prefer the GPU may go to the CPU now (see `overflow`)."""


replace_wanted = FastReplace(Wanted)
"""`dataclasses.replace` for a Wanted, in a third of the time."""
