"""Owns how a prompt is cut into blocks that are told apart by hashes, and which endpoint a hash falls on. Pure.

Every router computes the same hashes, whatever its process: two routers that share nothing send a prefix to the same
endpoint. Block k's hash covers all up to its end, and blocks grow with their distance from the beginning, so that the
longest prompts have a bounded number of them.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2

BYTES_PER_TOKEN = 4
"""Of text on average, and exactly of token ids as they are hashed here."""
_HASH_BYTES = 8
_BLOCK_SIZES_BYTES = (256,) * 64 + (1024,) * 32 + (4096,) * 32
_ENDS = tuple(accumulate(_BLOCK_SIZES_BYTES, initial=0))
_BLOCKS_OF_KEY = 4
"""The first blocks, 256 tokens, say which endpoint a prompt falls on: what follows differs between its users."""


def hash_prompt(request: pb.GenerateRequest) -> tuple[int, ...]:
    """The hashes of the full blocks of a request's prompt, and of the model's name with it; () for a short one."""
    kind = request.WhichOneof("prompt")
    if kind == "text":
        prompt = request.text.encode()
    elif kind == "token_ids":
        prompt = _narrow(request.token_ids)
    else:
        prompt = b"".join(_serialise_chat(request.chat))
    return readdress(hash_blocks(prompt, str(kind).encode()), "", request.model)


def readdress(blocks: tuple[int, ...], model: str, other: str) -> tuple[int, ...]:
    """The hashes of the same prompt to another model."""
    if not blocks:
        return ()
    change = _hash_model(model) ^ _hash_model(other)
    return tuple(block ^ change for block in blocks)


def hash_blocks(prompt: bytes, salt: bytes = b"") -> tuple[int, ...]:
    """The hash of each full block of the bytes, chained: equal hashes mean that all up to there is equal."""
    hasher = blake2b(salt, digest_size=_HASH_BYTES)
    hashes = []
    view = memoryview(prompt)
    for start, end in pairwise(_ENDS):
        if end > len(prompt):
            break
        hasher.update(view[start:end])
        hashes.append(int.from_bytes(hasher.digest()))
    return tuple(hashes)


def block_tokens(index: int) -> int:
    """About how many tokens the block at that index has."""
    return _BLOCK_SIZES_BYTES[index] // BYTES_PER_TOKEN


def prefix_tokens(blocks: int) -> int:
    """About how many tokens the first `blocks` blocks have."""
    return _ENDS[blocks] // BYTES_PER_TOKEN


def _hash_model(model: str) -> int:
    return int.from_bytes(blake2b(model.encode(), digest_size=_HASH_BYTES).digest()) if model else 0


def hash_address(address: str) -> int:
    """An endpoint's number in `pick_by_hash`."""
    return int.from_bytes(blake2b(address.encode(), digest_size=_HASH_BYTES).digest())


def pick_by_hash(addresses: NDArray[np.uint64], blocks: Sequence[int]) -> int:
    """Index of the address, given by hashes, that the prompt falls on.

    Rendezvous hashing, so that few prompts move when the fleet changes: the largest of splitmix64's finaliser over
    address and prompt wins.
    """
    key = np.uint64(blocks[min(len(blocks), _BLOCKS_OF_KEY) - 1])
    ranks = addresses ^ key
    ranks = (ranks ^ (ranks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    ranks = (ranks ^ (ranks >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((ranks ^ (ranks >> np.uint64(31))).argmax())


def _serialise_chat(chat: pb.ChatPrompt) -> Iterable[bytes]:
    """The parts of a conversation that a template renders, in the order in which templates do: tools come first."""
    for tool in chat.tools:
        yield f"{tool.name}\0{tool.description}\0{tool.parameters_json}\1".encode()
    for message in chat.messages:
        yield f"{message.role}\0{message.name}\0{message.content}\1".encode()
        for call in message.tool_calls:
            yield f"{call.name}\0{call.arguments_json}\1".encode()


def _narrow(token_ids: tensor_pb2.Tensor) -> bytes:
    """The ids in four bytes each, whichever type they came in; a malformed tensor is the worker's to refuse."""
    if token_ids.dtype == tensor_pb2.DATA_TYPE_INT64 and len(token_ids.data) % 8 == 0:
        return np.frombuffer(token_ids.data, "<i8").astype("<i4").tobytes()
    return token_ids.data
