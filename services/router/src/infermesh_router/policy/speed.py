"""How fast an endpoint would run a model that it has not loaded: what was measured, or its runtime.

A model that was measured on the endpoint counts with its own speed. Otherwise the speed of the measured model that is
nearest in size counts, in proportion to the size of the weights.
"""

import math
from collections.abc import Sequence

from infermesh_router.policy.model_load import EXPECTED_OUTPUT_TOKENS
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot

TYPICAL_PROMPT_TOKENS = 512

_MADE_FOR = {DeviceKind.CPU: "openvino", DeviceKind.XPU: "torch", DeviceKind.CUDA: "torch"}
"""Device → how the name of the runtime begins that runs models fastest on it. torch runs on CPUs too, but slower."""


def request_s(prefill_tokens_per_s: float, decode_tokens_per_s: float) -> float:
    """How long a typical request takes at these rates, in seconds. Both must be above 0."""
    return TYPICAL_PROMPT_TOKENS / prefill_tokens_per_s + EXPECTED_OUTPUT_TOKENS / decode_tokens_per_s


def expected_s(endpoint: EndpointSnapshot, model: str) -> float | None:
    """How long a typical request would take with the model there, in seconds; None if nothing was measured."""
    if model in endpoint.request_s:
        return endpoint.request_s[model]
    sizes, size = endpoint.model_sizes, endpoint.model_sizes.get(model, 0)
    measured = [other for other in sorted(endpoint.request_s) if sizes.get(other)]
    if not size or not measured:
        return None
    nearest = min(measured, key=lambda other: abs(math.log(size / sizes[other])))
    return endpoint.request_s[nearest] * size / sizes[nearest]


def finish_ranks(endpoints: Sequence[EndpointSnapshot], model: str) -> dict[str, tuple[bool, float]]:
    """Address → sort key; the smallest is the endpoint expected to finish a request first.

    The key is the time to drain plus the time of a request, if the speed of every endpoint is known: measured and
    unmeasured ones cannot be compared. Otherwise endpoints with the runtime made for their device come first, and then
    the shortest time to drain.
    """
    expected = {e.address: expected_s(e, model) for e in endpoints}
    known = {address: seconds for address, seconds in expected.items() if seconds is not None}
    if len(known) == len(expected):
        return {e.address: (False, e.seconds_to_drain + known[e.address]) for e in endpoints}
    return {e.address: (not made_for_device(e), e.seconds_to_drain) for e in endpoints}


def made_for_device(endpoint: EndpointSnapshot) -> bool:
    """Whether its runtime is the one made for its device."""
    runtime = _MADE_FOR.get(endpoint.device)
    return runtime is not None and endpoint.runtime.startswith(runtime)
