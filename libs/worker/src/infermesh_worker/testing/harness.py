"""Runs requests on an engine with a real model inside a test's process."""

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Output
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_worker.engine_process.built_model import BuiltModel

PROMPTS = (
    "The sea in winter",
    "def fibonacci(n):\n    ",
    "Water boils at",
    "List three colours: red,",
    "Once upon a time, in a village by the river, there lived an old clockmaker who",
    "SELECT name, age FROM people WHERE",
    "1, 2, 3, 4, 5,",
    "Dear Sir or Madam,\n\nI am writing to",
    "The mitochondrion is",
    "import numpy as np\n\ndef mean(values):",
    "In 1969,",
    "Roses are red, violets are blue,",
    "The recipe calls for flour, eggs and",
    "A prime number is a number that",
    "Bonjour, je m'appelle",
    '{\n  "name": "Ada",\n  "age":',
    "Photosynthesis turns sunlight into",
    "The train left the station at noon and",
    "Q: What do bees make?\nA:",
    "To be, or not to be, that is",
)
"""Twenty varied prompts of 3 to 20 tokens."""


class Harness:
    """An engine on a built model, and helpers to make and run requests."""

    def __init__(self, model: BuiltModel, **config: object) -> None:
        self.tokenizer = model.tokenizer
        chosen = EngineConfig(**config)  # type: ignore[arg-type] # the test knows the fields
        self.engine = Engine(model.runner, model.tokenizer, model.eos_token_ids, chosen)

    def ids(self, prompt: str) -> list[int]:
        return self.tokenizer.encode(prompt, add_special_tokens=False).ids

    def request(self, request_id: str, prompt: str, *, tokens: int = 64, **fields: object) -> GenerationRequest:
        ids = tuple(self.ids(prompt))
        chosen = {"sampling": SamplingParams(temperature=0.0), "seed": 7} | fields
        stop = StopConditions(max_tokens=tokens, ignore_eos=True)
        return GenerationRequest(request_id=request_id, prompt_token_ids=ids, stop=stop, **chosen)  # type: ignore[arg-type] # the test knows the fields

    def run(self, *requests: GenerationRequest) -> list[Output]:
        """Runs requests together; returns all outputs."""
        for request in requests:
            self.engine.submit(request)
        outputs: list[Output] = []
        while self.engine.has_work:
            outputs += self.engine.step()
        return outputs

    def tokens(self, *requests: GenerationRequest) -> dict[str, tuple[int, ...]]:
        """Runs requests together; returns the tokens of each by request id. Each request must have one choice."""
        result: dict[str, tuple[int, ...]] = {request.request_id: () for request in requests}
        for output in self.run(*requests):
            if isinstance(output, Delta):
                result[output.request_id] += output.token_ids
        return result
