"""The mesh that the clients of all dialects share: the default model behind the real Envoy."""

from tests.e2e.conftest import mesh, new_mesh

__all__ = ["mesh", "new_mesh"]
