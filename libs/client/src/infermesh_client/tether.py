"""Runs a command that dies with its parent: `python -m infermesh_client.tether --parent PID -- COMMAND...`.

`--service FILE` in place of the command reads it from a JSON file: its arguments, and variables for its environment.

The command replaces this process. The kernel sends it SIGKILL when the parent ends, however that happens, so a killed
supervisor leaves no orphans. Every service starts through this module, so it imports as little as it can.
"""

import json
import os
import sys
from pathlib import Path

from infermesh_runtime.processes.parent import die_with

USAGE = "usage: python -m infermesh_client.tether --parent PID (--service FILE | -- COMMAND...)"


def main(arguments: list[str]) -> None:
    """Becomes the command that the arguments name. Exits with 2 on a usage error, 127 if the command cannot be run."""
    match arguments:
        case ["--parent", pid, "--", *command] if pid.isdecimal() and command:
            die_with(int(pid))
        case ["--parent", pid, "--service", path] if pid.isdecimal():
            die_with(int(pid))
            service = json.loads(Path(path).read_bytes())
            command = service["command"]
            os.environ.update(service["environment"])
        case _:
            print(USAGE, file=sys.stderr)
            sys.exit(2)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"tether: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main(sys.argv[1:])
