"""Quotes the end of a service's log, but only lines that the current start wrote."""

from pathlib import Path

_LOG_LINES = 20


class LogEnds:
    """How long each log was when the mesh was started; older lines tell of earlier starts."""

    def __init__(self, folder: Path) -> None:
        self._sizes = {path.name: path.stat().st_size for path in folder.glob("*.log")}

    def tail(self, log: Path) -> str:
        """The last lines written since then, and where the whole log is."""
        return "\n".join([*self._lines(log)[-_LOG_LINES:], f"(the full log is {log})"])

    def _lines(self, log: Path) -> list[str]:
        try:
            written = log.read_bytes()
        except OSError:
            return []
        known = self._sizes.get(log.name, 0)
        new = written[known:] if len(written) >= known else written  # shorter than before: it was rotated
        return new.decode(errors="replace").splitlines()
