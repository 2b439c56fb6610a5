"""A tiny vision-language model on worker-xpu and in transformers, asked the same."""

import asyncio
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jinja2 import Template
from PIL import Image

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.output import Delta, Finished
from infermesh_engine.requests.request import GenerationRequest
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.convert import to_generation
from infermesh_worker.testing.harness import Harness
from tests.vision_models.families import Processor, template

TOKENS = 8
Part = str | bytes
"""A text or an image file."""
Expected = tuple[list[int], tuple[int, ...]]


@dataclass
class Pair:
    """A model here and in transformers."""

    folder: Path
    reference: Any
    process: Processor
    built: BuiltModel
    opened: OpenedModel
    _known: dict[tuple[Part, ...], Expected] = field(default_factory=dict)

    def request(self, name: str, *parts: Part, generated: Sequence[int] = (), n: int = 1) -> GenerationRequest:
        """A conversation of one message. The engine gets its answer's first tokens, if there are some."""
        made = [
            pb.ContentPart(text=part) if isinstance(part, str) else pb.ContentPart(image=pb.Image(data=part))
            for part in parts
        ]
        asked = pb.GenerateRequest(chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", parts=made)]), n=n)
        asked.sampling.temperature, asked.stop.max_tokens, asked.stop.ignore_eos, asked.seed = 0, TOKENS, True, 1
        if generated:
            asked.generated.append(pb.Continuation(choice=0, token_ids=generated))

        async def convert() -> GenerationRequest:
            made = await to_generation(asked, request_id=name, model=self.opened, info=self.built.runner.info)
            self.opened.close()
            return made

        return asyncio.run(convert())

    def harness(self, **config: int | bool) -> Harness:
        return Harness(self.built, **{"max_batched_tokens": 512, **config})

    def run(self, harness: Harness, *requests: GenerationRequest) -> dict[str, tuple[tuple[int, ...], int]]:
        """Runs requests together; the tokens of each, and how many of its prompt were cached."""
        tokens: dict[str, tuple[int, ...]] = {request.request_id: () for request in requests}
        cached = dict.fromkeys(tokens, 0)
        for output in harness.run(*requests):
            if isinstance(output, Delta) and output.choice == 0:
                tokens[output.request_id] += output.token_ids
            elif isinstance(output, Finished):
                cached[output.request_id] += output.cached_tokens
        return {name: (found, cached[name]) for name, found in tokens.items()}

    def expected(self, *parts: Part) -> Expected:
        """The prompt and greedy tokens of transformers' processor and `generate`."""
        if parts not in self._known:
            self._known[parts] = self._generate(*parts)
        return self._known[parts]

    def _generate(self, *parts: Part) -> Expected:
        images = [Image.open(io.BytesIO(part)).convert("RGB") for part in parts if isinstance(part, bytes)]
        content = [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in parts]
        text = Template(template(self.folder.name)).render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = dict(self.process(text, images))
        prompt = inputs["input_ids"][0].tolist()
        with torch.inference_mode():
            answer = self.reference.generate(
                **inputs, do_sample=False, max_new_tokens=TOKENS, min_new_tokens=TOKENS, eos_token_id=None
            )
        return prompt, tuple(answer[0, len(prompt) :].tolist())
