"""How a model is imported, as the command and the SDK say it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh_client.model_import.precision import WeightPrecision


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How a model is imported, beside what to do with one of the same name."""

    weights: WeightPrecision | None = None
    """Precision that converters compress to; None lets each converter choose."""
    link: bool = False
    """A GGUF file on this machine is linked instead of copied."""
    include: str | None = None
    """A pattern that the names of weights in a repository must match."""
    verify: bool = True
    """Whether the finished model is tried and compared with its source."""
    eos: Sequence[str] = ()
    """Tokens (texts or ids) that end the model's answers beside those that it names."""
    tool_format: str | None = None
    """The format of the model's tool calls, "none" if it makes none; None: as its chat template shows."""
    reasoning: str | None = None
    """The marks of its reasoning, "none" if it writes none; None: as its chat template shows."""
    max_batch: int | None = None
    """Most rows of requests to a model of tensors that run together, 1: none; None: as the import finds."""
    batch_delay_ms: float = 0.0
    """Longest time that a request to a model of tensors waits for others, in milliseconds."""
    trust_code: bool = False
    """Whether files that can run code of their makers are taken: those of torch.export and TorchScript."""
    home: Path | None = None
    """INFERMESH_HOME, for the converter environment and logs; None: the folder that holds the models folder."""
