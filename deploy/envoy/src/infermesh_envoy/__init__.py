"""infermesh's Envoy: `render` makes its configuration, `command` starts it. Knows nothing of the router's inside."""

from infermesh_envoy.options import Address, EnvoyOptions
from infermesh_envoy.process import EnvoyProcess, command
from infermesh_envoy.render import render

__all__ = ["Address", "EnvoyOptions", "EnvoyProcess", "command", "render"]
