"""Owns a worker without a device: the simulated runner in real time, and a tokenizer of one token for each byte.

`python -m infermesh_worker.simulated` runs it; tests of routers and policies use it.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.runner import DeviceKind
from infermesh_engine.simulated import SimulatedOptions, SimulatedRunner
from infermesh_runtime.settings import load
from infermesh_worker.chat_template import ChatTemplate
from infermesh_worker.loaded_model import LoadedModel
from infermesh_worker.main import serve
from infermesh_worker.served_model import ServedModel
from infermesh_worker.settings import WorkerSettings

BLOCK_SIZE = 32
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
"""Token ids 256, 257 and 258; ids below are bytes."""
END_OF_TEXT_ID = 256
VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

_CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


class SimulatedSettings(WorkerSettings):
    """What the simulated device is like."""

    model: str = Field("simulated", min_length=1, description="Name of the model that is pretended to be served.")
    sim_device: DeviceKind = Field("cpu", description="Kind of the simulated device: cpu, xpu or cuda.")
    sim_prefill_tokens_per_s: float = Field(10_000.0, gt=0, description="Prefill rate, in tokens/s.")
    sim_itl_s: float = Field(0.007, ge=0, description="Time of a decode step with one sequence, in seconds.")
    sim_slope_s: float = Field(0.0005, ge=0, description="Further time of it for each sequence, in seconds.")
    sim_kv_tokens: int = Field(32_768, ge=BLOCK_SIZE, description="Size of the KV cache, in tokens.")
    sim_context_length: int = Field(8192, ge=2, description="Longest prompt and output together, in tokens.")
    sim_eos: bool = Field(False, description="Whether a sampled end-of-text token ends a choice.")


def build(options: Mapping[str, Any]) -> LoadedModel:
    """Called in the engine process. Options: "runner" (fields of SimulatedOptions) and "eos"."""
    return LoadedModel(
        runner=SimulatedRunner(SimulatedOptions(**options["runner"])),
        tokenizer=build_tokenizer(),
        eos_token_ids=frozenset({END_OF_TEXT_ID} if options["eos"] else ()),
    )


def build_tokenizer() -> Tokenizer:
    """One token for each byte, its id the byte's value, and the special tokens."""
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    return tokenizer


def byte_characters() -> dict[int, str]:
    """The character that stands for each byte in byte-level tokenizers (GPT-2's `bytes_to_unicode`)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}


def served_model(settings: SimulatedSettings) -> ServedModel:
    """The model as the front serves it."""
    return ServedModel(
        name=settings.model,
        tokenizer=build_tokenizer(),
        chat_template=ChatTemplate(_CHAT_TEMPLATE, eos_token=END_OF_TEXT),
        context_length=settings.sim_context_length,
        size_bytes=0,
        created=datetime.now(UTC),
    )


def build_options(settings: SimulatedSettings) -> dict[str, Any]:
    """The options of `build`."""
    runner = {
        "prefill_tokens_per_s": settings.sim_prefill_tokens_per_s,
        "base_itl_s": settings.sim_itl_s,
        "slope_itl_s": settings.sim_slope_s,
        "num_blocks": settings.sim_kv_tokens // BLOCK_SIZE,
        "block_size": BLOCK_SIZE,
        "vocab_size": VOCAB_SIZE,
        "context_length": settings.sim_context_length,
        "device_kind": settings.sim_device,
    }
    return {"runner": runner, "eos": settings.sim_eos}


def main() -> int:
    """Runs the worker."""
    settings = load(SimulatedSettings)
    return serve(
        settings,
        build="infermesh_worker.simulated:build",
        options=build_options(settings),
        model=served_model(settings),
    )


if __name__ == "__main__":
    sys.exit(main())
