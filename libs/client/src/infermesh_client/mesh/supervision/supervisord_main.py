"""Runs supervisord in the foreground: `python -m infermesh_client.mesh.supervision.supervisord_main CONFIG`.

The configuration refers to %(ENV_SUPERVISORD_PID)s, the process id to which the services' tethers tie themselves.
"""

import os
import sys

from supervisor.supervisord import main  # type: ignore[import-untyped] # it has no types

from infermesh_client.mesh.supervision.lossy_logs import use_lossy_logs

if __name__ == "__main__":
    use_lossy_logs()
    os.environ["SUPERVISORD_PID"] = str(os.getpid())
    main(["--nodaemon", "--configuration", sys.argv[1]])
