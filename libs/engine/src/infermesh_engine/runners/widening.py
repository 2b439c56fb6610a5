"""Owns the batch without single rows, which runners compute under exact numerics. Knows no device and no sequence."""

from dataclasses import replace

import numpy as np

from infermesh_engine.runners.runner import Batch


def widened(batch: Batch, scratch_block: int) -> Batch:
    """The same batch with at least two tokens and two rows: kernels take other paths for a single one.

    What is added is a one-token sequence on a block that no sequence owns, and a row asked for twice.
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
        )
    if len(batch.rows) == 1:
        batch = replace(
            batch, rows=np.repeat(batch.rows, 2), inverse_temperatures=np.repeat(batch.inverse_temperatures, 2)
        )
    return batch
