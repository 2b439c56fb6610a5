"""Prints the Envoy configuration for the options on the command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.render import render


def parse(arguments: Sequence[str]) -> EnvoyOptions:
    """Parses the command line. Exits with 2 and a message on stderr when it is malformed."""
    default = EnvoyOptions()
    parser = argparse.ArgumentParser(prog="python -m infermesh_envoy", description=__doc__)
    parser.add_argument(
        "--http",
        type=Address.parse,
        default=default.http,
        help="where to serve the REST API, host:port (default: %(default)s)",
    )
    parser.add_argument(
        "--grpc", type=Address.parse, default=default.grpc, help="where to serve gRPC, host:port (default: %(default)s)"
    )
    parser.add_argument(
        "--router",
        type=Address.parse,
        default=default.router,
        help="where the router listens, host:port (default: %(default)s)",
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        default=default.admin_port,
        help="port of Envoy's admin page on 127.0.0.1 (default: any free port)",
    )
    parser.add_argument(
        "--admin-socket", type=Path, help="unix socket for the admin page, for this user only, instead of the port"
    )
    parser.add_argument(
        "--access-log", default=default.access_log, help="file for one JSON line per request (default: standard output)"
    )
    parser.add_argument(
        "--timeout-s",
        type=float,
        default=default.timeout_s,
        help="seconds without data after which a REST request ends (default: %(default)s)",
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        dest="cors_origins",
        help="origin whose web pages may call the API, * for any; may be repeated (default: none)",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        dest="allowed_hosts",
        help="host name by which the REST API may be called, * for any; may be repeated (default: on loopback its own "
        "names, else any)",
    )
    parser.add_argument(
        "--node-id", default=default.node_id, help="name of this Envoy in logs and statistics (default: %(default)s)"
    )
    parser.add_argument(
        "--descriptors",
        type=Path,
        default=default.descriptors,
        help="file with the protobuf descriptor set (default: the committed one)",
    )
    parser.add_argument(
        "--lua",
        type=Path,
        default=default.lua,
        help="file with the Lua filter for errors (default: errors.lua of this package)",
    )
    values = vars(parser.parse_args(arguments))
    values["cors_origins"] = tuple(values["cors_origins"] or default.cors_origins)
    values["allowed_hosts"] = tuple(values["allowed_hosts"] or default.allowed_hosts)
    return EnvoyOptions(**values)


if __name__ == "__main__":
    sys.stdout.write(render(parse(sys.argv[1:])))
