"""Says in words why the router chose an endpoint."""

_WORDS = {
    "only_endpoint": "the only one that could answer",
    "named_endpoint": "you named it",
    "least_seconds_to_drain": "expected to finish first",
    "kv_headroom": "has more free KV cache",
    "prefix_affinity": "has the beginning of the prompt cached",
    "prefix_hash": "its turn, by the beginning of the prompt",
    "session_hash": "its turn, by the session",
    "session_affinity": "answered this session before",
    "device_preference": "on the device that the model prefers",
    "size_rule": "on the device for models of this size",
    "least_cost": "costs least",
    "equal": "as good as the others",
    "retry": "replaces one that failed",
    "cpu_overflow": "the accelerators are too busy",
    "gpu_unavailable": "no accelerator can answer now",
}


def reason_in_words(reason: str) -> str:
    """The reason as a person would say it; one that is not known stays as it is."""
    return _WORDS.get(reason, reason)
