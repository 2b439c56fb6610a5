"""Owns `python -m infermesh_client.mesh.supervisord CONFIG`: runs supervisord in the foreground.

It tells the configuration, as %(ENV_SUPERVISORD_PID)s, the process to which the services' tethers tie themselves.
"""

import os
import sys

from supervisor.supervisord import main  # type: ignore[import-untyped] # it has no types

if __name__ == "__main__":
    os.environ["SUPERVISORD_PID"] = str(os.getpid())
    main(["--nodaemon", "--configuration", sys.argv[1]])
