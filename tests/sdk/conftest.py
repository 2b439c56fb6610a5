"""The mesh that programs of the SDK, and the examples, talk to."""

from tests.e2e.conftest import mesh, new_lasting_mesh, new_mesh

__all__ = ["mesh", "new_lasting_mesh", "new_mesh"]
