"""Defines the command lines of `infermesh top` and `infermesh ui`."""

from typing import Annotated

import typer

from infermesh_client.cli.options import Endpoint

watch_app = typer.Typer()


@watch_app.command()
def top(endpoint: Endpoint = None) -> None:
    """Watch the mesh in a view that fills the terminal, with the last minutes as sparklines. Ctrl-C ends it."""
    from infermesh_client.cli.watch.top import run_top  # noqa: PLC0415 - each subcommand loads only what it needs

    run_top(endpoint)


@watch_app.command()
def ui(
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Whether to open the page, or only to print its address.")
    ] = True,
) -> None:
    """Open the mesh's page in a browser: chat, compare devices, and see the mesh work."""
    from infermesh_client.cli.watch.ui import run_ui  # noqa: PLC0415

    run_ui(browser=browser)
