"""What calls over one way took, as a row of the table."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """What calls over one way took. A call's bytes count once, though they go there and back."""

    way: str
    size: str
    calls: int = 0
    bytes_per_s: float = 0.0
    requests_per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    refused: str = ""
    """What the server says of a size that it does not take; nothing is measured then."""

    def __str__(self) -> str:
        start = f"{self.way:36} {self.size:10} "
        if self.refused:
            return f"{start} refused: {self.refused}"
        return (
            f"{start} {self.calls:6} calls  {self.bytes_per_s / 1e6:9.1f} MB/s  {self.requests_per_s:8.1f}/s  "
            f"p50 {self.p50_ms:8.2f} ms  p99 {self.p99_ms:8.2f} ms"
        )


def measured(way: str, size: str, size_bytes: int, took_s: Sequence[float], total_s: float) -> Row:
    """The row of calls that took `took_s` each and `total_s` together, which is less where they ran at once."""
    p50, p99 = np.percentile(took_s, [50, 99])
    rate = len(took_s) / total_s
    return Row(way, size, len(took_s), rate * size_bytes, rate, float(p50) * 1e3, float(p99) * 1e3)


def show(rows: Iterable[Row]) -> None:
    """Prints the rows, and as the last line all of them as one JSON document."""
    shown = list(rows)
    for each in shown:
        print(each)
    print(json.dumps([asdict(each) for each in shown]))
