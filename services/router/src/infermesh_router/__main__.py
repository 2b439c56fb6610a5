"""Runs the router as a process: reads the settings, builds the server, and serves until told to stop."""

import sys

from infermesh_router.app import build_server
from infermesh_router.config.mesh_file import MeshConfigError
from infermesh_router.config.settings import RouterSettings
from infermesh_runtime import logs
from infermesh_runtime.processes.process import run
from infermesh_runtime.settings import load_or_exit


async def serve(settings: RouterSettings) -> None:
    """Serves until SIGTERM or SIGINT. The router is ready at once; without a ready worker it answers "retry later"."""
    await build_server(settings).serve_until_stopped()


def main() -> int:
    """The command `infermesh-router`. Returns its exit status."""
    settings = load_or_exit(RouterSettings)
    logs.configure(settings.log_level)
    try:
        return run(lambda: serve(settings))
    except MeshConfigError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
