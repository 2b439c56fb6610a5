"""Pads a batch of one token or one row to two, which exact numerics need."""

from dataclasses import replace

import numpy as np

from infermesh_engine.runners.runner import Batch


def widened(batch: Batch, scratch_block: int) -> Batch:
    """The same batch with at least two tokens and two rows, because kernels sum in another order for a single one.

    It adds a one-token sequence on `scratch_block`, which no sequence owns, and asks for the only row twice.
    """
    if len(batch.token_ids) == 1:
        batch = replace(
            batch,
            token_ids=np.append(batch.token_ids, batch.token_ids[:1]),
            positions=np.append(batch.positions, np.int64(0)),
            past_lens=np.append(batch.past_lens, np.int32(0)),
            begins=np.append(batch.begins, np.int32(2)),
            blocks=np.append(batch.blocks, np.int32(scratch_block)),
            block_begins=np.append(batch.block_begins, np.int32(len(batch.blocks) + 1)),
            rope=None if batch.rope is None else np.pad(batch.rope, ((0, 0), (0, 1))),
        )
    if len(batch.rows) == 1:
        batch = replace(
            batch, rows=np.repeat(batch.rows, 2), inverse_temperatures=np.repeat(batch.inverse_temperatures, 2)
        )
    return batch
