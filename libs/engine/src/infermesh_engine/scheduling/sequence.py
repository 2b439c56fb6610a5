"""What the engine knows of one sequence: its tokens, its KV blocks, and how much of it is computed."""

from typing import TYPE_CHECKING

import numpy as np

from infermesh_engine.requests.request import GenerationRequest
from infermesh_engine.scheduling.growing_array import GrowingArray
from infermesh_engine.scheduling.prompt_scores import PromptScores
from infermesh_engine.scheduling.timing import SequenceTiming
from infermesh_engine.speculation.guessing import Guessing
from infermesh_engine.speculation.prompt_index import SharedIndex

if TYPE_CHECKING:
    from infermesh_engine.sampling.sampler_state import SamplerState
    from infermesh_engine.scheduling.prompt_images import PromptImages
    from infermesh_engine.text.sequence_text import SequenceText


class Sequence:
    """One choice of a request: its prompt, its generated tokens, and its KV blocks.

    Always `computed ≤ num_tokens`. While it runs, its blocks have room for `capacity ≥ computed` tokens. It is in
    decode when the KV of all tokens but the last is computed.
    """

    __slots__ = (
        "blocks",
        "cached_tokens",
        "capacity",
        "choice",
        "computed",
        "followers",
        "guessing",
        "images",
        "keys",
        "last_token",
        "limit",
        "num_tokens",
        "order",
        "prefix_root",
        "prompt_tokens",
        "published",
        "request_id",
        "sampler",
        "scores",
        "text",
        "timing",
        "tokens",
        "was_admitted",
    )

    def __init__(
        self,
        request: GenerationRequest,
        choice: int,
        *,
        arrival: int,
        limit: int,
        prefix_root: bytes | None,
        sampler: "SamplerState",
        text: "SequenceText",
        images: "PromptImages | None" = None,
        prompt_index: SharedIndex | None = None,
    ) -> None:
        self.request_id = request.request_id
        self.choice = choice
        self.order = (-request.priority, arrival, choice)
        """Smaller is served first and preempted last."""
        self.limit = limit
        """Most tokens of prompt and output together."""
        self.sampler = sampler
        self.text = text
        self.images = images
        """None if its prompt has none."""
        self.tokens = GrowingArray(np.array(request.prompt_token_ids, dtype=np.int64))
        self.num_tokens = self.prompt_tokens = len(self.tokens)
        self.last_token = request.prompt_token_ids[-1]
        self.computed = 0
        """Tokens whose KV is in the blocks."""
        self.blocks = GrowingArray(np.empty(0, dtype=np.int32))
        self.capacity = 0
        """Tokens that the blocks have room for."""
        self.prefix_root = prefix_root
        """Start of its chain of block keys; None if it shares blocks with nobody."""
        self.keys: list[bytes] = []
        """Keys of its full blocks, as many as have been needed so far."""
        self.published = 0
        """Leading blocks that were published or came from the cache."""
        self.cached_tokens = 0
        """Prompt tokens that came from the prefix cache at the first admission; before that, an estimate."""
        self.was_admitted = False
        self.timing = SequenceTiming()
        self.guessing = Guessing(request.prediction, prompt_index or SharedIndex())
        self.scores: PromptScores | None = None
        """The log probabilities of its prompt's tokens; None if nobody asked for them."""
        self.followers: list[Sequence] = []
        """Choices of the same request that wait to share the prompt's KV once it is computed."""

    @property
    def completion_tokens(self) -> int:
        return self.num_tokens - self.prompt_tokens

    @property
    def is_scoring(self) -> bool:
        """Whether log probabilities of its prompt's tokens are still to be computed."""
        return self.scores is not None and self.computed < self.prompt_tokens

    @property
    def pending(self) -> int:
        """Tokens whose KV is not computed; 1 in decode."""
        return self.num_tokens - self.computed

    def append(self, token_id: int) -> None:
        """Adds a token of the output; its KV is computed by a later step."""
        self.tokens.append(token_id)
        self.num_tokens += 1
        self.last_token = token_id

    def expect(self, row: int) -> None:
        """Adds a placeholder for the token that row `row` of a launch will bring, as `Batch.token_ids` names it."""
        self.append(-1 - row)

    def unexpect(self) -> None:
        """Removes the placeholder: the token has arrived, or will not."""
        self.tokens.pop()
        self.num_tokens -= 1
        self.last_token = int(self.tokens.view[-1])
