"""The tether: a command that ends when its parent does."""

import os
import signal
import subprocess
import sys

import psutil

TETHER = [sys.executable, "-m", "infermesh_client.tether"]
PARENT = """
import os, subprocess, sys
tether = [sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--"]
command = [*tether, sys.executable, "-c", "print('up', flush=True); input()"]
child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


def test_child_dies_with_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert psutil.wait_procs([child], timeout=10)[1] == []


def test_child_of_a_dead_parent_does_not_start() -> None:
    result = subprocess.run(
        [*TETHER, "--parent", "1", "--", "echo", "ran"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "has ended" in result.stderr


def test_exit_code_and_output_are_the_commands() -> None:
    command = [*TETHER, "--parent", str(os.getpid()), "--", "sh", "-c", "echo out; exit 7"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (7, "out\n")


def test_command_that_is_not_there() -> None:
    command = [*TETHER, "--parent", str(os.getpid()), "--", "/no/such/program"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 127
    assert result.stderr == "tether: cannot run /no/such/program: No such file or directory\n"


def test_usage() -> None:
    assert subprocess.run(TETHER, capture_output=True, check=False).returncode == 2
