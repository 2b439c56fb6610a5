"""Writes the files that name Envoy's certificates, which Envoy watches, so that renewed ones are used at once."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from infermesh_envoy.options import EnvoyOptions

LISTENER_CERTIFICATE = "listener-certificate.json"
MESH_CERTIFICATE = "mesh-certificate.json"
MESH_CA = "mesh-ca.json"
_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


def write_secrets(options: EnvoyOptions) -> None:
    """Writes one file for each certificate and CA of the options into their folder; none without TLS."""
    tls, mesh = options.tls, options.mesh_tls
    if tls is not None:
        _write(options.secrets / LISTENER_CERTIFICATE, _certificate(tls.cert, tls.key))
    if mesh is not None:
        _write(options.secrets / MESH_CERTIFICATE, _certificate(mesh.cert, mesh.key))
        _write(options.secrets / MESH_CA, {"validation_context": _trust(options, mesh.ca)})


def router_names(options: EnvoyOptions) -> list[tuple[str, str]]:
    """The names one of which the router's certificate must have, each with its kind."""
    name = options.mesh_tls.name if options.mesh_tls else ""
    routers = (options.router, *options.more_routers)
    return list(dict.fromkeys(_kind(name or router.host) for router in routers))


def _trust(options: EnvoyOptions, ca: Path) -> dict[str, Any]:
    names = [{"san_type": kind, "matcher": {"exact": name}} for kind, name in router_names(options)]
    return {"trusted_ca": {"filename": str(ca.absolute())}, "match_typed_subject_alt_names": names}


def _kind(name: str) -> tuple[str, str]:
    try:
        return "IP_ADDRESS", str(ip_address(name))
    except ValueError:
        return "DNS", name


def _certificate(cert: Path, key: Path) -> dict[str, Any]:
    chain, private = {"filename": str(cert.absolute())}, {"filename": str(key.absolute())}
    return {"tls_certificate": {"certificate_chain": chain, "private_key": private}}


def _write(path: Path, secret: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    resource = {"@type": _TYPE, "name": path.stem, **secret}
    path.write_text(json.dumps({"resources": [resource]}, indent=2), encoding="utf-8")
