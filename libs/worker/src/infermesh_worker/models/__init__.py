"""The models of a worker: on disk, in memory, and which of them a request means."""
