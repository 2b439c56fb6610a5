"""Prints the configuration for the options on the command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.render import render


def parse(arguments: Sequence[str]) -> EnvoyOptions:
    """Reads the command line; exits with 2 and one line on stderr when it is wrong."""
    default = EnvoyOptions()
    parser = argparse.ArgumentParser(prog="python -m infermesh_envoy", description=__doc__)
    parser.add_argument("--http", type=Address.parse, default=default.http, help="REST listener (%(default)s)")
    parser.add_argument("--grpc", type=Address.parse, default=default.grpc, help="gRPC listener (%(default)s)")
    parser.add_argument("--router", type=Address.parse, default=default.router, help="the router (%(default)s)")
    parser.add_argument("--admin-port", type=int, default=default.admin_port, help="on 127.0.0.1 (any free port)")
    parser.add_argument("--access-log", default=default.access_log, help="file for JSON lines (standard output)")
    parser.add_argument("--timeout-s", type=float, default=default.timeout_s, help="longest silence (%(default)s)")
    parser.add_argument("--cors-origin", action="append", dest="cors_origins", help="repeatable; any when absent")
    parser.add_argument("--node-id", default=default.node_id, help="name in logs and statistics (%(default)s)")
    parser.add_argument("--descriptors", type=Path, default=default.descriptors, help="descriptor set Envoy reads")
    parser.add_argument("--lua", type=Path, default=default.lua, help="error filter Envoy reads")
    values = vars(parser.parse_args(arguments))
    values["cors_origins"] = tuple(values["cors_origins"] or default.cors_origins)
    return EnvoyOptions(**values)


if __name__ == "__main__":
    sys.stdout.write(render(parse(sys.argv[1:])))
