"""Turns a batch into the tensors that every layer reads, on the device."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from infermesh_engine.runners.runner import Batch
from infermesh_worker_xpu.steps.upload import Upload


@dataclass(frozen=True, slots=True)
class DecodePart:
    """The sequences with one new token, at the start of the batch."""

    tokens: int
    """S, the number of these sequences: their tokens are the first S of the batch. In captured steps there are rows
    with a context of 0 too, which are padding or belong to the prefill part."""
    block_tables: Tensor
    """[S, max_blocks] int32, padded with 0."""
    context_lens: Tensor
    """[S] int32, past and new tokens of each sequence."""


@dataclass(frozen=True, slots=True)
class PrefillPart:
    """The sequences after the decodes, with any number of new tokens, in captured steps also 0."""

    block_tables: Tensor
    """[S, max_blocks] int32, padded with 0."""
    begins: Tensor
    """[S + 1] int32, where each sequence's tokens begin, counted from `first_token`."""
    context_lens: Tensor
    """[S] int32, past and new tokens of each sequence."""
    max_new: int
    """Most new tokens of any of the sequences, or more."""
    first_token: int
    """Index in the step of the token that `begins` counts from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpan:
    """Neighbouring tokens of one image, which see each other and all tokens before them."""

    first: int
    """Index in the step of the first one."""
    tokens: int
    position: int
    """Position of the first one in its sequence."""
    blocks: Tensor
    """[n] int32, the block table of the sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPart:
    """The tokens whose embeddings are replaced by features of images."""

    tokens: Tensor
    """[F] int64, their indices in the step."""
    features: Tensor
    """[F, hidden]."""
    spans: tuple[ImageSpan, ...] = ()
    """Only for models whose images see themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStep:
    """A batch on its device; T new tokens, R rows."""

    token_ids: Tensor
    """[1, T] int64."""
    positions: Tensor
    """[1, T] int64, or [3, 1, T] where images have rotary positions in three directions."""
    slots: Tensor
    """[T] int64, where each token's KV goes: block × block size + offset."""
    rows: Tensor
    """[R] int64, indices of the tokens whose logits are needed; the last token if the batch needs none, so R ≥ 1."""
    decode: DecodePart | None
    prefill: PrefillPart | None
    padded: bool = False
    """Whether there may be tokens that belong to no sequence of either part."""
    seen: SeenPart | None = None
    """None if no token is an image's."""


def upload_step(batch: Batch, *, block_size: int, upload: Upload, seen: SeenPart | None = None) -> DeviceStep:
    """Copies a batch to the device. The engine may reuse the batch's arrays as soon as this returns."""
    new = np.diff(batch.begins)
    tables = _padded_tables(batch)
    rows = batch.rows if len(batch.rows) else np.array([len(batch.token_ids) - 1])
    decodes = leading_decodes(batch)
    contexts = batch.past_lens + new.astype(np.int32)
    arrays: list[NDArray[Any]] = [
        batch.token_ids[None],
        rotary_positions(batch),
        token_slots(batch, tables, block_size),
        rows.astype(np.int64),
    ]
    if decodes:
        arrays += [tables[:decodes], contexts[:decodes]]
    if decodes < len(new):
        arrays += [tables[decodes:], batch.begins[decodes:] - batch.begins[decodes], contexts[decodes:]]
    sent = iter(upload.send(arrays))
    return DeviceStep(
        token_ids=next(sent),
        positions=next(sent),
        slots=next(sent),
        rows=next(sent),
        decode=DecodePart(decodes, next(sent), next(sent)) if decodes else None,
        prefill=PrefillPart(next(sent), next(sent), next(sent), int(new[decodes:].max()), decodes)
        if decodes < len(new)
        else None,
        seen=seen,
    )


def rotary_positions(batch: Batch) -> NDArray[np.int64]:
    """[1, T], or [3, 1, T] if they differ between the three directions."""
    if batch.rope is None:
        return batch.positions[None]
    return batch.rope[:1] if is_flat(batch) else batch.rope[:, None]


def is_flat(batch: Batch) -> bool:
    """Whether each token has the same rotary position in all directions."""
    return batch.rope is None or bool((batch.rope[1:] == batch.rope[0]).all())


def leading_decodes(batch: Batch) -> int:
    """How many sequences at the start of a batch have one new token each."""
    longer = np.diff(batch.begins) != 1
    return int(np.argmax(longer)) if longer.any() else len(longer)


def token_slots(batch: Batch, tables: NDArray[np.int32], block_size: int) -> NDArray[np.int64]:
    """[T], the slot of each new token, by the block tables [S, max_blocks]."""
    sequence_of_token = np.repeat(np.arange(len(tables)), np.diff(batch.begins))
    blocks = tables[sequence_of_token, batch.positions // block_size].astype(np.int64)
    slots: NDArray[np.int64] = blocks * block_size + batch.positions % block_size
    return slots


def _padded_tables(batch: Batch) -> NDArray[np.int32]:
    """[S, max_blocks], the block tables as rows, padded with 0."""
    counts = np.diff(batch.block_begins)
    tables = np.zeros((len(counts), int(counts.max())), np.int32)
    tables[np.arange(tables.shape[1]) < counts[:, None]] = batch.blocks
    return tables
