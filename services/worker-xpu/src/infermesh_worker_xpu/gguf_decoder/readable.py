"""Says which files the decoder can read. Loads no torch, so that an import can ask before it copies anything."""

from functools import cache

import gguf
import numpy as np

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.gguf_account.account import Account, make_account
from infermesh_worker.models.gguf_file import GgufFile


def account_of(file: GgufFile) -> Account:
    """The account of a file that can be read.

    Raises InvalidArgument, naming the key or tensor, for a file that says what we do not know, and FailedPrecondition
    for an architecture or a type of tensor that we do not know.
    """
    account = make_account(file.contents)
    for name in file.contents.tensors:
        if not _can_dequantise(file.kind(name)):
            raise FailedPrecondition(
                f"this GGUF file's tensor {name} has the type {file.kind(name).name}, which infermesh cannot read",
                reason="MODEL_NOT_SUPPORTED",
            )
    return account


@cache
def _can_dequantise(kind: gguf.GGMLQuantizationType) -> bool:
    """Whether gguf has a formula for the type: tries it on one block of zeros."""
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True
