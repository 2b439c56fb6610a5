"""Loads a model for `infermesh models load`, and shows on a terminal how far the load is."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infermesh.inference.v1 import inference_pb2
from infermesh_client.aio import AsyncClient
from infermesh_client.cli.boundary import error_console
from infermesh_client.cli.connection import beside
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.client import Client
from infermesh_runtime.errors import InfermeshError

_INTERVAL_MS = 300
OnLoad = Callable[[inference_pb2.ModelStatus], None]
"""Called with the model while it is being loaded and somebody knows how far that is."""


def load_and_show(client: Client, name: str, *, pinned: bool, keep_alive_s: float | None, device: str) -> Sequence[str]:
    """Loads the model and returns what was unloaded to make room. Raises InfermeshError."""
    console = error_console()
    if not console.is_terminal:
        return client.load_model(name, pinned=pinned, keep_alive_s=keep_alive_s, device=device)
    return asyncio.run(_load(client, name, console, pinned=pinned, keep_alive_s=keep_alive_s, device=device))


async def _load(
    client: Client, name: str, console: SafeConsole, *, pinned: bool, keep_alive_s: float | None, device: str
) -> Sequence[str]:
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    async with beside(client) as own:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(f"Loading {name}", total=None)

            def tell(model: inference_pb2.ModelStatus) -> None:
                left = f", {model.load_left_s:.0f} s left" if model.HasField("load_left_s") else ""
                progress.update(task, total=1.0, completed=model.load_fraction, description=f"Loading {name}{left}")

            follower = asyncio.create_task(follow_load(own, name, tell))
            try:
                return await own.load_model(name, pinned=pinned, keep_alive_s=keep_alive_s, device=device)
            finally:
                follower.cancel()
                with suppress(asyncio.CancelledError):
                    await follower


async def follow_load(client: AsyncClient, name: str, tell: OnLoad) -> None:
    """Tells the estimates that the mesh reports of the load, until it is cancelled; there may be none."""
    with suppress(InfermeshError):
        async with aclosing(client.watch_health(min_interval_ms=_INTERVAL_MS)) as reports:
            async for report in reports:
                for model in report.models:
                    if model.name == name and model.HasField("load_fraction"):
                        tell(model)
