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
    """S, the number of these sequences: their tokens are the first S of the batch."""
    block_tables: Tensor
    """[S, max_blocks] int32, padded with 0."""
    context_lens: Tensor
    """[S] int32, past and new tokens of each sequence."""


@dataclass(frozen=True, slots=True)
class PrefillPart:
    """The sequences after the decodes, with any number of new tokens."""

    block_tables: Tensor
    """[S, max_blocks] int32, padded with 0."""
    begins: Tensor
    """[S + 1] int32, where each sequence's tokens begin, counted from the first sequence's first token."""
    context_lens: Tensor
    """[S] int32, past and new tokens of each sequence."""
    max_new: int
    """Most new tokens of any of the sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStep:
    """A batch on its device; T new tokens, R rows."""

    token_ids: Tensor
    """[1, T] int64."""
    positions: Tensor
    """[1, T] int64."""
    slots: Tensor
    """[T] int64, where each token's KV goes: block × block size + offset."""
    rows: Tensor
    """[R] int64, indices of the tokens whose logits are needed; the last token if the batch needs none, so R ≥ 1."""
    decode: DecodePart | None
    prefill: PrefillPart | None

    @property
    def decodes(self) -> int:
        """Number of tokens that belong to `decode`."""
        return self.decode.tokens if self.decode is not None else 0


def upload_step(batch: Batch, *, block_size: int, upload: Upload) -> DeviceStep:
    """Copies a batch to the device. The engine may reuse the batch's arrays as soon as this returns."""
    new = np.diff(batch.begins)
    tables = _padded_tables(batch)
    sequence_of_token = np.repeat(np.arange(len(new)), new)
    blocks = tables[sequence_of_token, batch.positions // block_size].astype(np.int64)
    rows = batch.rows if len(batch.rows) else np.array([len(batch.token_ids) - 1])
    decodes = int(np.argmax(new != 1)) if (new != 1).any() else len(new)
    contexts = batch.past_lens + new.astype(np.int32)
    arrays: list[NDArray[Any]] = [
        batch.token_ids[None],
        batch.positions[None],
        blocks * block_size + batch.positions % block_size,
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
        prefill=PrefillPart(next(sent), next(sent), next(sent), int(new[decodes:].max()))
        if decodes < len(new)
        else None,
    )


def _padded_tables(batch: Batch) -> NDArray[np.int32]:
    """[S, max_blocks], the block tables as rows, padded with 0."""
    counts = np.diff(batch.block_begins)
    tables = np.zeros((len(counts), int(counts.max())), np.int32)
    tables[np.arange(tables.shape[1]) < counts[:, None]] = batch.blocks
    return tables
