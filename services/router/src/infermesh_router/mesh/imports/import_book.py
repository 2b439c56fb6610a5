"""The imports that endpoints have told of: those that run, and the last ones that ended."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.mesh.v1 import mesh_pb2 as pb

KEPT = 50
"""How many ended imports are kept."""
RUNNING, FAILED = "running", "failed"
_STATES: Mapping[int, str] = {
    admin.IMPORT_STATE_RUNNING: RUNNING,
    admin.IMPORT_STATE_DONE: "done",
    admin.IMPORT_STATE_FAILED: FAILED,
    admin.IMPORT_STATE_CANCELLED: "cancelled",
}
_FORGOTTEN = "The worker was restarted, which ended the import."


class ImportBook:
    """Imports by id. What an endpoint says of its own counts; one that it no longer knows has failed."""

    def __init__(self) -> None:
        self.version = 0
        """Grows with each change."""
        self._imports: dict[str, pb.Import] = {}

    @property
    def all(self) -> list[pb.Import]:
        """All of them, newest first."""
        return sorted(self._imports.values(), key=_began, reverse=True)

    def find(self, import_id: str) -> pb.Import | None:
        """The import of this id."""
        return self._imports.get(import_id)

    @property
    def busy_endpoints(self) -> set[str]:
        """The addresses of those that import now."""
        return {each.endpoint for each in self._imports.values() if each.state == RUNNING}

    def running_on(self, address: str) -> list[pb.Import]:
        """Those that run on an endpoint."""
        return [each for each in self._imports.values() if each.endpoint == address and each.state == RUNNING]

    def note_all(self, address: str, listed: Iterable[admin.ModelImport], asked_about: Iterable[pb.Import]) -> None:
        """Takes over what an endpoint has answered. `asked_about`: those that ran on it when it was asked."""
        told = {each.import_id: each for each in listed}
        self._fail((each for each in asked_about if each.import_id not in told), _FORGOTTEN)
        for each in told.values():
            self.note(address, each)

    def note(self, address: str, told: admin.ModelImport) -> pb.Import:
        """Takes over one import of an endpoint, and returns it."""
        described = _describe(address, told)
        if self._imports.get(told.import_id) != described:
            self._imports[told.import_id] = described
            self._forget_old()
            self.version += 1
        return described

    def note_loss(self, address: str, reason: str) -> None:
        """The endpoint is lost, and what ran there with it; if it comes back, it may say otherwise."""
        self._fail(self.running_on(address), f"The worker is lost: {reason or 'it left the mesh'}.")

    def _fail(self, imports: Iterable[pb.Import], message: str) -> None:
        for each in imports:
            failed = pb.Import()
            failed.CopyFrom(each)
            failed.state, failed.message = FAILED, message
            failed.ended_at.FromDatetime(datetime.now(UTC))
            self._imports[each.import_id] = failed
            self.version += 1

    def _forget_old(self) -> None:
        ended = [each for each in self.all if each.state != RUNNING]
        for each in ended[KEPT:]:
            del self._imports[each.import_id]


def _began(told: pb.Import) -> tuple[int, int]:
    return told.started_at.seconds, told.started_at.nanos


def _describe(address: str, told: admin.ModelImport) -> pb.Import:
    described = pb.Import(
        import_id=told.import_id,
        source=told.source,
        name=told.name,
        endpoint=address,
        state=_STATES.get(told.state, FAILED),
        step=told.step,
        fraction=told.fraction if told.HasField("fraction") else None,
        done_bytes=told.done_bytes if told.HasField("done_bytes") else None,
        total_bytes=told.total_bytes if told.HasField("total_bytes") else None,
        message=told.message,
        started_at=told.started_at,
    )
    if told.HasField("ended_at"):
        described.ended_at.CopyFrom(told.ended_at)
    return described
