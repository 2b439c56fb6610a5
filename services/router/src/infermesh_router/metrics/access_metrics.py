"""Counts the requests that were refused because of their API key."""

from prometheus_client import CollectorRegistry, Counter

from infermesh_runtime.series import Series


class AccessMetrics:
    """The metrics of access, registered once per router."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Series(
            Counter(
                "infermesh:router_refused",
                "Requests refused because of their API key: missing, unknown, expired or revoked; not allowed the "
                "model, device or priority; or over its rate limit. By reason, as in the error's code.",
                ("reason",),
                registry=registry,
            )
        )
