"""The interface of a model runner whose KV cache can give memory back while it runs."""

from typing import Protocol, runtime_checkable

from infermesh_engine.runners.runner import ModelRunner


@runtime_checkable
class ShrinkingRunner(ModelRunner, Protocol):
    """A runner that can give back the memory of KV blocks that no sequence uses."""

    def release_blocks(self, blocks: range) -> None:
        """Gives back the memory of consecutive blocks. They stay usable, with unknown content.

        Raises OSError when the system does not take the memory.
        """
        ...
