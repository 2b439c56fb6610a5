"""Reads the options of the Envoy configuration from the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infermesh_envoy.browsers import is_loopback
from infermesh_envoy.options import Address, EnvoyOptions, ListenerTls, MeshTls

_DEFAULT = EnvoyOptions()


def parse(arguments: Sequence[str], *, description: str | None = None) -> EnvoyOptions:
    """Parses the command line. Exits with 2 and a message on stderr when it is malformed."""
    parser = argparse.ArgumentParser(prog="python -m infermesh_envoy", description=description)
    for add_options in (_add_addresses, _add_access, _add_mesh, _add_files):
        add_options(parser)
    values = vars(parser.parse_args(arguments))
    values["cors_origins"] = tuple(values["cors_origins"] or _DEFAULT.cors_origins)
    values["more_routers"] = tuple(values["more_routers"])
    values["allowed_hosts"] = tuple(values["allowed_hosts"] or _DEFAULT.allowed_hosts)
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


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    """Where Envoy listens and connects, and for how long it waits there."""
    parser.add_argument(
        "--http",
        type=Address.parse,
        default=_DEFAULT.http,
        help="where to serve the REST API, host:port (default: %(default)s)",
    )
    parser.add_argument(
        "--grpc",
        type=Address.parse,
        default=_DEFAULT.grpc,
        help="where to serve gRPC, host:port (default: %(default)s)",
    )
    parser.add_argument(
        "--router",
        type=Address.parse,
        default=_DEFAULT.router,
        help="where the router listens, host:port (default: %(default)s)",
    )
    parser.add_argument(
        "--more-routers",
        type=Address.parse,
        nargs="*",
        default=[],
        help="further routers beside it, among which requests are spread, host:port (default: none)",
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        default=_DEFAULT.admin_port,
        help="port of Envoy's admin page on 127.0.0.1 (default: any free port)",
    )
    parser.add_argument(
        "--admin-socket", type=Path, help="unix socket for the admin page, for this user only, instead of the port"
    )

    parser.add_argument(
        "--timeout-s",
        type=float,
        default=_DEFAULT.timeout_s,
        help="seconds without data after which a REST request ends (default: %(default)s)",
    )


def _add_access(parser: argparse.ArgumentParser) -> None:
    """Who may call the two listeners, and how."""
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
        help="host name by which the REST API may be called, * for any, *.svc for all that end in .svc; may be "
        "repeated (default: on loopback its own names, else any)",
    )
    parser.add_argument("--tls-cert", type=Path, help="certificate chain of both listeners (default: plain text)")
    parser.add_argument("--tls-key", type=Path, help="private key of that certificate")
    parser.add_argument(
        "--insecure", action="store_true", help="allow listening on other addresses than loopback in plain text"
    )
    parser.add_argument(
        "--no-reflection", action="store_false", dest="reflection", help="hide which gRPC services there are"
    )


def _add_mesh(parser: argparse.ArgumentParser) -> None:
    """TLS between Envoy and the router."""
    parser.add_argument("--mesh-ca", type=Path, help="CA of the router's certificate (default: plain text)")
    parser.add_argument("--mesh-cert", type=Path, help="certificate chain that Envoy shows the router")
    parser.add_argument("--mesh-key", type=Path, help="private key of that certificate")
    parser.add_argument("--mesh-name", default="", help="name in the router's certificate (default: its host)")


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Files that Envoy reads and writes, and its name in them."""
    parser.add_argument(
        "--access-log",
        default=_DEFAULT.access_log,
        help="file for one JSON line per request (default: standard output)",
    )
    parser.add_argument(
        "--secrets",
        type=Path,
        default=_DEFAULT.secrets,
        help="folder for the files that name the certificates, for Envoy to watch; written now (default: this folder)",
    )
    parser.add_argument(
        "--node-id", default=_DEFAULT.node_id, help="name of this Envoy in logs and statistics (default: %(default)s)"
    )
    parser.add_argument(
        "--descriptors",
        type=Path,
        default=_DEFAULT.descriptors,
        help="file with the protobuf descriptor set (default: the committed one)",
    )
    parser.add_argument(
        "--lua",
        type=Path,
        default=_DEFAULT.lua,
        help="file with the Lua filter for errors (default: errors.lua of this package)",
    )


def _files(parser: argparse.ArgumentParser, values: dict[str, Any], *names: str) -> list[Path]:
    """The files of these options; none if none is given. Exits if only some are."""
    given = [path for name in names if (path := values.pop(name)) is not None]
    if len(given) not in (0, len(names)):
        parser.error(f"give all of {', '.join('--' + name.replace('_', '-') for name in names)}, or none")
    return given
