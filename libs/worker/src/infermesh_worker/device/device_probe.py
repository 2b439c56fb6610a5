"""Asks a device library about its device, before any model is loaded, in a short-lived process.

The front starts it as `python -m infermesh_worker.device.device_probe --parent PID --probe package.module:function`,
so that the front itself never loads a device library. It reads options as JSON from stdin and writes DeviceFacts as
JSON to stdout.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import msgspec

from infermesh_runtime.errors import FailedPrecondition, InfermeshError
from infermesh_runtime.processes.parent import die_with
from infermesh_worker.device.device_facts import DeviceFacts

TIMEOUT_S = 120.0


async def probe_device(probe: str, options: Mapping[str, Any]) -> DeviceFacts:
    """Calls `probe`, a package.module:function, with the options in a process of its own.

    Raises FailedPrecondition with the probe's own message when it fails.
    """
    return await asyncio.to_thread(_run, probe, msgspec.json.encode(options))


def _run(probe: str, options: bytes) -> DeviceFacts:
    command = [
        sys.executable,
        "-m",
        "infermesh_worker.device.device_probe",
        "--parent",
        str(os.getpid()),
        "--probe",
        probe,
    ]
    try:
        done = subprocess.run(command, input=options, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedPrecondition(f"cannot query the device: {error}", reason="DEVICE_NOT_AVAILABLE") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise FailedPrecondition(f"cannot query the device: {words[-1]}", reason="DEVICE_NOT_AVAILABLE")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=DeviceFacts)


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="infermesh_worker.device.device_probe", description=__doc__)
    parser.add_argument("--parent", type=int, required=True, help="process id of the front; ends with it")
    parser.add_argument("--probe", required=True, help="package.module:function that returns DeviceFacts")
    arguments = parser.parse_args()
    die_with(arguments.parent)
    module, _, function = arguments.probe.partition(":")
    try:
        facts = getattr(import_module(module), function)(msgspec.json.decode(sys.stdin.buffer.read()))
    except InfermeshError as error:
        print(error.message, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(facts) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
