"""The quick replacement of a dataclass's fields does what `dataclasses.replace` does."""

from dataclasses import FrozenInstanceError, replace

import pytest

from infermesh_router.policy.fast_replace import FastReplace
from infermesh_router.policy.snapshot import Wanted


def test_it_does_what_replace_does() -> None:
    fast = FastReplace(Wanted)
    wanted = Wanted(model="m", tried=frozenset({"a:1"}), max_tokens=5)
    assert fast(wanted) == wanted
    assert fast(wanted, client="c", member="u") == replace(wanted, client="c", member="u")
    assert (wanted.client, wanted.member) == ("", "")
    with pytest.raises(KeyError):
        fast(wanted, nonsense=1)
    with pytest.raises(FrozenInstanceError):
        fast(wanted).model = "n"  # type: ignore[misc]
