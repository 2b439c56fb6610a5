"""Builds the simulated model in the engine process, which imports nothing of the front."""

import time
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from infermesh_engine.requests.image import PromptImage
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.executors.executor import BuiltExecutor
from infermesh_worker.images.decoding import decode
from infermesh_worker.images.prepared import PreparedImage
from infermesh_worker.testing.simulated_encoder import build as build_encoder
from infermesh_worker.testing.simulated_executor import build as build_executor
from infermesh_worker.testing.simulated_speech import build as build_speech

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)
"""Token ids 256, 257 and 258; lower ids are bytes."""
END_OF_TEXT_ID = 256
VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)


def build(options: Mapping[str, Any]) -> BuiltModel | BuiltExecutor:
    """Builds a model in the engine process. Options: "runner" (fields of SimulatedOptions), "eos", "images", "load_s".

    With "executor", it is a model of tensors, and the options are those of simulated_executor.build. With "encoder", it
    is one that embeds or scores texts, and they are those of simulated_encoder.build. With "speech", it transcribes or
    speaks, and they are those of simulated_speech.build.
    """
    time.sleep(options.get("load_s", 0.0))
    if (executor := options.get("executor")) is not None:
        return build_executor(executor)
    if (encoder := options.get("encoder")) is not None:
        return build_encoder(encoder)
    if (speech := options.get("speech")) is not None:
        return build_speech(speech)
    return BuiltModel(
        runner=SimulatedRunner(SimulatedOptions(**options["runner"])),
        tokenizer=build_tokenizer(),
        eos_token_ids=frozenset({END_OF_TEXT_ID} if options["eos"] else ()),
        prepare_image=_decode if options.get("images") else None,
    )


def _decode(image: PromptImage) -> PreparedImage:
    pixels = decode(image.data)
    return PreparedImage({}, 3 * pixels.width * pixels.height)


def build_tokenizer() -> Tokenizer:
    """A tokenizer with one token for each byte, whose id is the byte's value, and the special tokens."""
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
