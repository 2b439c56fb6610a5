"""Makes the requests of the fleet simulation: when they come, how long they are, which prefixes they share."""

import random
from dataclasses import dataclass

from infermesh_router.policy.prefix.prefix_hash import hash_blocks

_BYTES_PER_TOKEN = 4
_SYSTEM_TOKENS = (512, 1024, 2048)
_BURST_EVERY_S, _BURST_LASTS_S, _BURST_FACTOR = 8.0, 1.5, 3.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]
    """The router's hashes of its prompt; the simulated workers' caches identify blocks by them too."""


@dataclass(slots=True)
class _Conversation:
    text: bytes


def make_trace(*, requests_per_s: float, duration_s: float, groups: int, seed: int) -> list[Request]:
    """Returns requests in bursts: 60 % start with one of `groups` system prompts (Zipf), 40 % go on a conversation."""
    rng = random.Random(seed)
    systems = [rng.randbytes(_BYTES_PER_TOKEN * rng.choice(_SYSTEM_TOKENS)) for _ in range(groups)]
    weights = [1 / (rank + 1) for rank in range(groups)]
    conversations: list[_Conversation] = []
    requests: list[Request] = []
    at_s = 0.0
    while True:
        at_s += rng.expovariate(_rate(at_s, requests_per_s))
        if at_s >= duration_s:
            return requests
        if rng.random() < 0.6:
            prompt = rng.choices(systems, weights)[0] + _text(rng, 32, 512)
        else:
            prompt = _continue(rng, conversations, systems, weights)
        output_tokens = min(512, max(8, round(rng.lognormvariate(4.6, 0.6))))
        requests.append(Request(at_s, len(prompt) // _BYTES_PER_TOKEN, output_tokens, hash_blocks(prompt)))


def _rate(at_s: float, mean: float) -> float:
    """Returns the requests per second at a moment; over a whole period they average `mean`."""
    quiet = mean * _BURST_EVERY_S / (_BURST_EVERY_S + (_BURST_FACTOR - 1) * _BURST_LASTS_S)
    return quiet * _BURST_FACTOR if at_s % _BURST_EVERY_S > _BURST_EVERY_S - _BURST_LASTS_S else quiet


def _text(rng: random.Random, least_tokens: int, most_tokens: int) -> bytes:
    return rng.randbytes(_BYTES_PER_TOKEN * rng.randint(least_tokens, most_tokens))


def _continue(
    rng: random.Random, conversations: list[_Conversation], systems: list[bytes], weights: list[float]
) -> bytes:
    """Returns a conversation's next prompt: all that came before, and a new text. Conversations end at 4,000 tokens."""
    if not conversations or rng.random() < 0.25:
        conversations.append(_Conversation(rng.choices(systems, weights)[0]))
    index = rng.randrange(len(conversations))
    conversation = conversations[index]
    conversation.text += _text(rng, 64, 384)
    prompt = conversation.text
    if len(prompt) > 4000 * _BYTES_PER_TOKEN:
        conversations.pop(index)
    return prompt[: 4032 * _BYTES_PER_TOKEN]
