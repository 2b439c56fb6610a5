"""What an engine is asked: a prompt as token ids, and how to continue it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from infermesh_engine.requests.image import PromptImage


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is chosen.

    They are applied in this order: logit_bias, penalties, grammar mask, temperature, top_k, top_p, min_p.
    """

    temperature: float = 1.0
    """In [0, 2]; 0 is greedy."""
    top_k: int = 0
    """0 keeps all tokens."""
    top_p: float = 1.0
    """In (0, 1]."""
    min_p: float = 0.0
    """In [0, 1]."""
    repetition_penalty: float = 1.0
    """In (0, 2]; applies to tokens of the prompt and the output."""
    presence_penalty: float = 0.0
    """In [-2, 2]; applies to tokens of the output."""
    frequency_penalty: float = 0.0
    """In [-2, 2]; applies to tokens of the output."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token id to what is added to its logit, in [-100, 100]."""
    allowed_token_ids: tuple[int, ...] = ()
    """The only tokens that may be sampled; empty: all."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Token sequences that the output must not contain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopConditions:
    """When a choice ends."""

    strings: tuple[str, ...] = ()
    """The choice ends before the first of these, which is not emitted."""
    token_ids: tuple[int, ...] = ()
    """The choice ends after any of these, whose text is not emitted."""
    max_tokens: int | None = None
    """None: as many as the context has room for."""
    min_tokens: int = 0
    """Stop strings, stop tokens and end-of-sequence tokens are ignored before this many tokens."""
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions:
    """What the text of an output contains."""

    keep_special_tokens: bool = False
    shown_token_ids: tuple[int, ...] = ()
    """Special tokens that are shown by their names even if the others are not."""
    keep_stop: bool = False
    """Whether it has the stop string, or the text of the stop token, that ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """A constraint on the output, enforced by masking logits."""

    kind: Literal["json_schema", "regex", "grammar"]
    spec: str
    open_objects: bool = False
    """Whether objects of a JSON schema that list their members may have others, where the schema does not say."""
    bound_digits: bool = False
    """Whether numbers have no runs of more than about 20 digits, as always in JSON schemas."""
    before: str = ""
    """What may come before it: rules in llguidance's Lark syntax, one of them called `before`; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """What one choice of an interrupted stream has already delivered."""

    choice: int
    token_ids: tuple[int, ...]
    finished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One client call: a prompt and how to continue it `n` times.

    A random draw depends on its position, counted in generated tokens from 0. So a request with `generated` draws what
    the uninterrupted one would have drawn.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    seed: int
    """In [0, 2**64)."""
    sampling: SamplingParams = SamplingParams()
    stop: StopConditions = StopConditions()
    output_format: OutputFormat | None = None
    logprobs: int | None = None
    """None: no log probabilities. k ≥ 0: those of the sampled token and of the k most probable ones."""
    prompt_logprobs: int | None = None
    """The same for the tokens of the prompt, which is then computed without the prefix cache."""
    text: TextOptions = TextOptions()
    cache_salt: str = ""
    """Prefixes are shared with requests that have the same one."""
    n: int = 1
    priority: int = 0
    """Larger is scheduled first."""
    generated: tuple[Continuation, ...] = ()
    prediction: tuple[int, ...] = ()
    """What the output is expected to be. It changes nothing but the speed."""
    images: tuple[PromptImage, ...] = ()
    """In the order of their positions. The prompt goes on after the last one."""
