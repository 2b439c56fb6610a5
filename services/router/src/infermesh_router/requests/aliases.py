"""Replaces an alias with its model; an alias can split requests between models by weight."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import accumulate

from infermesh_router.requests.call import Call

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class AliasTarget:
    """One of the models that an alias stands for."""

    model: str
    weight: float = 1.0
    """Its share of the requests is its weight divided by the sum of all weights."""


class Aliases:
    """Alias → targets. `resolve` sends a call to one of them."""

    def __init__(
        self,
        targets: Mapping[str, Sequence[AliasTarget]] | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`draw` returns numbers in [0, 1); it decides for calls that have neither session nor client."""
        self.targets: Mapping[str, Sequence[AliasTarget]] = targets or {}
        self._draw = draw

    def models(self) -> dict[str, list[str]]:
        """The models that each alias stands for."""
        return {alias: [target.model for target in targets] for alias, targets in self.targets.items()}

    def resolve(self, call: Call) -> Call:
        """The call, addressed to the model that its alias stands for. A call that names no alias is returned as it is.

        Among several targets, calls of one session always go to the same one; without a session, calls of one client
        do. The choice is by hash, so all routers agree on it, and it holds until the weights change.
        """
        alias = call.wanted.model
        targets = self.targets.get(alias)
        if not targets:
            return call
        resolved = call.for_model(_pick(targets, self._fraction(call, alias)))
        return replace(resolved, wanted=replace(resolved.wanted, alias=alias))

    def _fraction(self, call: Call, alias: str) -> float:
        who = call.session_id or "\0".join(filter(None, (call.wanted.client, call.wanted.member)))
        if not who:
            return self._draw()
        digest = blake2b(f"{alias}\0{who}".encode(), digest_size=_HASH_BYTES).digest()
        return int.from_bytes(digest) / (1 << 8 * _HASH_BYTES)


def _pick(targets: Sequence[AliasTarget], fraction: float) -> str:
    sums = list(accumulate(target.weight for target in targets))
    return next(t.model for t, upto in zip(targets, sums, strict=True) if fraction * sums[-1] < upto)
