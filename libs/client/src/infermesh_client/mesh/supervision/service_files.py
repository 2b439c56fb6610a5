"""Writes what each service is started with to a file of its own, which its tether reads.

The supervisor's configuration has quotes, comments and % of its own, and ends a value at a newline. Commands and
environment variables hold paths and settings of the user's, so they stay out of it.
"""

import json
import os
from collections.abc import Sequence

from infermesh_client.mesh.plan import Service
from infermesh_client.settings import Home

_FOLDER = "services"


def write_service_files(home: Home, services: Sequence[Service]) -> None:
    """Writes one file for each service, readable by this user only: settings may be secrets."""
    folder = home.run / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for service in services:
        document = {"command": [*service.command], "environment": {**service.environment}}
        path = folder / f"{service.name}.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            json.dump(document, file, indent=2)


def service_file(name: str) -> str:
    """Path of a service's file, relative to the home folder; it needs no quoting."""
    return f"run/{_FOLDER}/{name}.json"
