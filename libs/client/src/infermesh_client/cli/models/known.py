"""Waits until the mesh knows a model that has just been put into the models folder."""

from contextlib import closing

from infermesh_client.client import Client
from infermesh_runtime.errors import DeadlineExceeded


def wait_until_known(client: Client, name: str) -> bool:
    """Waits until a worker lists the model; False when none has by the client's own deadline.

    Workers list their models folder about once a second. Raises InfermeshError when the mesh does not answer.
    """
    try:
        with closing(client.watch_health()) as reports:
            for report in reports:
                if name in {model.name for model in report.available} | {model.name for model in report.models}:
                    return True
    except DeadlineExceeded:
        pass
    return False
