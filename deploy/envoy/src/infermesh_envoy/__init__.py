"""Envoy for infermesh: renders its configuration and runs it in front of a router."""

from infermesh_envoy.options import Address, EnvoyOptions, ListenerTls, MeshTls
from infermesh_envoy.process import EnvoyProcess, command
from infermesh_envoy.render import render
from infermesh_envoy.secrets import write_secrets

__all__ = ["Address", "EnvoyOptions", "EnvoyProcess", "ListenerTls", "MeshTls", "command", "render", "write_secrets"]
