"""Cuts prompts into hashed blocks, and maps a prompt's hash to an endpoint.

Every router computes the same hashes, so routers that share no state still send a prefix to the same endpoint. A
block's hash covers the prompt from its beginning to the block's end. Blocks get larger along the prompt, so that even
the longest prompt has a bounded number of them.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2

BYTES_PER_TOKEN = 4
"""An average for text; exact for token ids, which are hashed as four bytes each."""
_HASH_BYTES = 8
IMAGE_TOKENS = 512
"""About how many tokens an image has; it depends on the model and on the image's size."""
_IMAGE_HASH_BYTES = 32
_BLOCK_SIZES_BYTES = (256,) * 64 + (1024,) * 32 + (4096,) * 32
_ENDS = tuple(accumulate(_BLOCK_SIZES_BYTES, initial=0))
HASHED_BYTES = _ENDS[-1]
"""A prompt is read up to here, however long it is."""
_BLOCKS_OF_KEY = 4
"""The first 4 blocks (256 tokens) pick the endpoint: users often share a system prompt, but not what follows."""


def hash_prompt(request: pb.GenerateRequest) -> tuple[int, ...]:
    """The hashes of the full blocks of a request's prompt, mixed with its model's name and its salt.

    () if it fills no block.
    """
    kind = request.WhichOneof("prompt")
    if kind == "text":
        prompt = request.text[:HASHED_BYTES].encode()
    elif kind == "token_ids":
        prompt = _narrow(request.token_ids)
    else:
        prompt = _begin_chat(request.chat)
    return rehash_for_model(hash_blocks(prompt, f"{kind}{request.cache_salt}".encode()), "", request.model)


def rehash_for_model(blocks: tuple[int, ...], model: str, other: str) -> tuple[int, ...]:
    """The hashes that the same prompt has with another model."""
    if not blocks:
        return ()
    change = _hash_model(model) ^ _hash_model(other)
    return tuple(block ^ change for block in blocks)


def hash_blocks(prompt: bytes, salt: bytes = b"") -> tuple[int, ...]:
    """The chained hash of each full block. Prompts share a hash only if they are equal up to the end of its block."""
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
    """Roughly how many tokens the block at that index has."""
    return _BLOCK_SIZES_BYTES[index] // BYTES_PER_TOKEN


def prefix_tokens(blocks: int) -> int:
    """Roughly how many tokens the first `blocks` blocks have."""
    return _ENDS[blocks] // BYTES_PER_TOKEN


def _hash_model(model: str) -> int:
    return int.from_bytes(blake2b(model.encode(), digest_size=_HASH_BYTES).digest()) if model else 0


def hash_address(address: str) -> int:
    """The hash of an endpoint's address, for `pick_by_hash`."""
    return int.from_bytes(blake2b(address.encode(), digest_size=_HASH_BYTES).digest())


def pick_by_hash(addresses: NDArray[np.uint64], blocks: Sequence[int]) -> int:
    """The index of the address that the prompt maps to; `addresses` holds the hashes of addresses.

    This is rendezvous hashing: each address is ranked by splitmix64's finaliser over address and prompt, and the
    largest rank wins. So few prompts move when endpoints come and go.
    """
    key = np.uint64(blocks[min(len(blocks), _BLOCKS_OF_KEY) - 1])
    ranks = addresses ^ key
    ranks = (ranks ^ (ranks >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    ranks = (ranks ^ (ranks >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int((ranks ^ (ranks >> np.uint64(31))).argmax())


def _begin_chat(chat: pb.ChatPrompt) -> bytes:
    """The conversation, serialised up to the last byte that is hashed."""
    parts, size = [], 0
    for part in _serialise_chat(chat):
        parts.append(part)
        size += len(part)
        if size >= HASHED_BYTES:
            break
    return b"".join(parts)


def _serialise_chat(chat: pb.ChatPrompt) -> Iterable[bytes]:
    """The parts of a conversation in the order in which chat templates render them: tools first."""
    end = HASHED_BYTES
    for tool in chat.tools:
        yield f"{tool.name}\0{tool.description[:end]}\0{tool.parameters_json[:end]}\1".encode()
    for message in chat.messages:
        content = "\n".join(message.content_parts) if message.content_parts else message.content
        yield f"{message.role}\0{message.name}\0{content[:end]}\1".encode()
        for part in message.parts:
            yield _hash_image(part.image) if part.HasField("image") else f"{part.text[:end]}\1".encode()
        for call in message.tool_calls:
            yield f"{call.name}\0{call.arguments_json[:end]}\1".encode()


def _hash_image(image: pb.Image) -> bytes:
    """As many bytes as the tokens that an image has on average, the same for the same image only."""
    return blake2b(image.data, digest_size=_IMAGE_HASH_BYTES).digest() * (
        IMAGE_TOKENS * BYTES_PER_TOKEN // _IMAGE_HASH_BYTES
    )


def _narrow(token_ids: tensor_pb2.Tensor) -> bytes:
    """The ids in four bytes each, whichever type they came in. A malformed tensor passes: the worker refuses it."""
    data = token_ids.data
    if token_ids.dtype == tensor_pb2.DATA_TYPE_INT64 and len(data) % 8 == 0:
        return np.frombuffer(data[: 2 * HASHED_BYTES], "<i8").astype("<i4").tobytes()
    return data[:HASHED_BYTES]
