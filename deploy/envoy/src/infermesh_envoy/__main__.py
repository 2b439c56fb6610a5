"""Prints the Envoy configuration for the options on the command line."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infermesh_envoy.browsers import is_loopback
from infermesh_envoy.options import Address, EnvoyOptions, ListenerTls, MeshTls
from infermesh_envoy.render import render
from infermesh_envoy.secrets import write_secrets


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
    parser.add_argument("--tls-cert", type=Path, help="certificate chain of both listeners (default: plain text)")
    parser.add_argument("--tls-key", type=Path, help="private key of that certificate")
    parser.add_argument("--mesh-ca", type=Path, help="CA of the router's certificate (default: plain text)")
    parser.add_argument("--mesh-cert", type=Path, help="certificate chain that Envoy shows the router")
    parser.add_argument("--mesh-key", type=Path, help="private key of that certificate")
    parser.add_argument("--mesh-name", default="", help="name in the router's certificate (default: its host)")
    parser.add_argument(
        "--secrets",
        type=Path,
        default=default.secrets,
        help="folder for the files that name the certificates, for Envoy to watch; written now (default: this folder)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="allow listening on other addresses than loopback in plain text"
    )
    parser.add_argument(
        "--no-reflection", action="store_false", dest="reflection", help="hide which gRPC services there are"
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
    tls = _files(parser, values, "tls_cert", "tls_key")
    mesh = _files(parser, values, "mesh_ca", "mesh_cert", "mesh_key")
    name, insecure = values.pop("mesh_name"), values.pop("insecure")
    for where in (values["http"], values["grpc"]):
        if not (tls or insecure or is_loopback(where.host)):
            parser.error(
                f"{where} can be reached from other machines, in plain text and by anybody; give --tls-cert and "
                "--tls-key, or --insecure if the network keeps strangers out"
            )
    return EnvoyOptions(
        **values,
        tls=ListenerTls(*tls) if tls else None,
        mesh_tls=MeshTls(mesh[0], mesh[1], mesh[2], name) if mesh else None,
    )


def _files(parser: argparse.ArgumentParser, values: dict[str, Any], *names: str) -> list[Path]:
    """The files of these options; none if none is given. Exits if only some are."""
    given = [path for name in names if (path := values.pop(name)) is not None]
    if len(given) not in (0, len(names)):
        parser.error(f"give all of {', '.join('--' + name.replace('_', '-') for name in names)}, or none")
    return given


def main() -> None:
    """Writes the files that name the certificates, and prints the configuration."""
    options = parse(sys.argv[1:])
    write_secrets(options)
    sys.stdout.write(render(options))


if __name__ == "__main__":
    main()
