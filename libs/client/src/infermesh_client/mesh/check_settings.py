"""Checks the settings of a planned mesh's services before anything is downloaded or started."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points

from infermesh_client.mesh.plan import Service
from infermesh_runtime.settings import ENTRY_POINTS, SettingsError, read


def check_settings(services: Sequence[Service]) -> None:
    """Reads each service's settings as the service will. Raises SettingsError with every problem, each once."""
    classes = {entry.module.partition(".")[0]: entry for entry in entry_points(group=ENTRY_POINTS)}
    problems: dict[str, None] = {}
    for service in services:
        entry = classes.get(service.command[-1])
        if entry is None:
            continue
        try:
            with _environment(service.environment):
                read(entry.load())
        except SettingsError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise SettingsError([*problems])


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Adds the variables to this process's environment while the block runs."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
