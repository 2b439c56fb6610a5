"""A rank that is not the first: loads its part of the model, and computes the batches that rank 0 sends."""

import logging
from multiprocessing.connection import Connection

from infermesh_runtime import logs
from infermesh_runtime.errors import InfermeshError
from infermesh_worker_xpu.execution.runner import TorchRunner
from infermesh_worker_xpu.ranks.member import load_member
from infermesh_worker_xpu.ranks.orders import Failed, Membership, Order, Release, Run

EXIT_FAILED = 70
"""Exit status after an error (EX_SOFTWARE of sysexits.h), which rank 0 was told."""

_log = logging.getLogger(__name__)


def follow(leader: Connection) -> int:
    """Serves rank 0 until it closes the connection; returns the exit status."""
    try:
        membership: Membership = leader.recv()
        logs.configure(membership.log_level)
        runner, _ = load_member(membership)
        while True:
            obey(runner, leader.recv())
    except (EOFError, ConnectionError):
        return 0
    except BaseException as error:  # rank 0 must hear of a panic in a library too
        _log.exception("a rank failed")
        _tell(leader, error)
        return EXIT_FAILED


def obey(runner: TorchRunner, order: Order) -> None:
    """Does this rank's part of what rank 0 does."""
    match order:
        case Run(batch):
            runner.launch(batch)  # only rank 0 reads logits, whether it has them sampled on its device or not
        case Release(blocks):
            runner.release_blocks(blocks)


def _tell(leader: Connection, error: BaseException) -> None:
    if isinstance(error, InfermeshError):
        failed = Failed("", error.message, int(error.code), error.reason, own=error.__cause__ is None)
    else:
        failed = Failed(type(error).__name__, str(error))
    try:
        leader.send(failed)
    except OSError:
        _log.warning("rank 0 is gone")
