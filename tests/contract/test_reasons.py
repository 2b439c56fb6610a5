"""Every reason of the router for a choice has words, in the command and on the page."""

import re
from pathlib import Path

import infermesh_router
from infermesh_client.cli.output.reasons import reason_in_words
from infermesh_router.policy import choice


def test_every_reason_has_words() -> None:
    reasons = set(re.findall(r"^  ([a-z_]+)  ", choice.__doc__ or "", re.MULTILINE))
    assert {choice.EQUAL, choice.RETRY, choice.PREFIX_HASH} <= reasons
    assert not {reason for reason in reasons if reason_in_words(reason) == reason}
    page = Path(infermesh_router.__file__).parent / "page" / "files" / "lib" / "reasons.js"
    assert reasons <= set(re.findall(r"^  (\w+):", page.read_text(), re.MULTILINE))
