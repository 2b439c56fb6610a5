"""Distributes test files over the processes of `make test`: files that share something costly stay together."""

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]  # xdist has no types

TOGETHER = {
    "tests/conformance/": "the meshes of tests/conformance",
    "tests/e2e/test_bad_input.py": "the mesh of tests/e2e",
    "tests/e2e/test_clients_leaving.py": "the mesh of tests/e2e",
    "tests/e2e/test_native_grpc.py": "the mesh of tests/e2e",
    "tests/e2e/test_node_client.py": "the mesh of tests/e2e",
    "tests/e2e/test_stream_ends.py": "the mesh of tests/e2e",
    "services/worker-cpu/tests/test_": "the models of services/worker-cpu",
    "services/worker-cpu/tests/soft_cap/": "the models of services/worker-cpu",
}
"""What files share until the session ends, by the beginning of their path. Each process that got one of them would make
it anew, and keep it: a mesh with the real model takes 8 s of a processor and 1 GB, a model 1 GB."""


class SharingScheduler(LoadFileScheduling):  # type: ignore[misc]  # same
    """Keeps the tests of a file in one process, and all files that share something."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return next((shared for beginning, shared in TOGETHER.items() if file.startswith(beginning)), file)
