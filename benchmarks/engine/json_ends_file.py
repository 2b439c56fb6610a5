"""Keeps the outputs of json_ends in a file between runs, so that many can be collected over several of them."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(slots=True)
class Collected:
    """What was collected so far."""

    options: dict[str, bool]
    """How the outputs were made; a file has those of one way only."""
    seconds: float = 0.0
    """How long that took, over all runs."""
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> set[tuple[int, str]]:
        """Question and schema of each output."""
        return {(each["question"], each["schema"]) for each in self.outputs}

    @classmethod
    def read(cls, path: Path, options: dict[str, bool]) -> Self:
        """What the file has, or nothing if there is none. Raises ValueError if it was made in another way."""
        if not path.is_file():
            return cls(options)
        found = cls(**json.loads(path.read_text(encoding="utf-8")))
        if found.options != options:
            raise ValueError(f"{path} was made with {found.options}, not with {options}")
        return found

    def write(self, path: Path) -> None:
        """Replaces the file at once, so that a run that is ended loses no more than what it was doing."""
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(path)
