"""Runs an import for a worker, whose caller is on another machine: progress as lines, and sources of networks only."""

import os
import sys
from contextlib import suppress
from dataclasses import replace

import typer

from infermesh_client.cli.boundary import load_settings
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress_lines import ProgressLines
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.importing.network_imports import check_network_source

_NICENESS = 10
"""The worker goes on to serve meanwhile."""


def run_worker_import(source: str, name: str, options: ImportOptions, *, force: bool) -> None:
    """Imports a model; what is said goes to stdout, line by line. Exits with 1 for an error, which is the last line."""
    with suppress(OSError):
        os.nice(_NICENESS)
    from infermesh_client.model_import.importer import import_model  # noqa: PLC0415 - loads the Hub's client

    _, home = load_settings()
    view = ProgressLines(sys.stdout)
    wanted = replace(options, home=home.root, trust_code=False, link=False)
    try:
        import_model(check_network_source(source), name, home.models, view, wanted, force=force)
    except InfermeshError as error:
        view.fail(error.message)
        raise typer.Exit(1) from None
