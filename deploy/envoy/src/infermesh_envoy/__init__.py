"""Envoy for infermesh: renders its configuration and runs it in front of a router."""

from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.process import EnvoyProcess, command
from infermesh_envoy.render import render

__all__ = ["Address", "EnvoyOptions", "EnvoyProcess", "command", "render"]
