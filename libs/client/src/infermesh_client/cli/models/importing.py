"""Runs `infermesh models import`."""

from dataclasses import replace

from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.models.known import wait_until_known
from infermesh_client.cli.output.safe_console import SafeConsole
from infermesh_client.mesh.supervision.supervisor import Supervisor
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_client.settings import ClientSettings
from infermesh_client.told import printable
from infermesh_runtime.errors import InfermeshError

_KNOWN_TIMEOUT_S = 5.0


def run_dry_import(source: str, options: ImportOptions) -> None:
    """Prints what an import would take in. Raises InfermeshError, as the import would."""
    from infermesh_client.model_import.importer import examine_model  # noqa: PLC0415 - as below

    _, home = load_settings()
    for line in examine_model(source, home.models, ProgressView(error_console()), options):
        print(printable(line))


def run_import(source: str, name: str, options: ImportOptions, *, force: bool) -> None:
    """Imports a model and prints what it became. Raises InfermeshError."""
    from infermesh_client.model_import.importer import import_model  # noqa: PLC0415 - loads the Hub's client

    settings, home = load_settings()
    console = error_console()
    options = replace(options, home=home.root)
    manifest = import_model(source, name, home.models, ProgressView(console), options, force=force)
    size = f"{manifest.size_bytes / 1e6:.1f} MB of {manifest.format} weights"
    what = f"context of {manifest.context_length} tokens" if manifest.context_length else f"kind {manifest.kind}"
    console.say(f"Imported {name}: {size}, {what}, in {home.models / name}")
    if Supervisor(home).is_running():
        _tell_when_known(console, settings, name)


def _tell_when_known(console: SafeConsole, settings: ClientSettings, name: str) -> None:
    """Returns when requests can name the new model, or says why they cannot."""
    try:
        with connect(None, settings, timeout_s=_KNOWN_TIMEOUT_S) as client:
            known = wait_until_known(client, name)
    except InfermeshError as error:
        console.say(f"The running mesh does not answer: {error.message}")
        return
    if not known:
        console.say(f"No worker of the running mesh can load {name}; their logs say why")
