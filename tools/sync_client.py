"""Makes the synchronous half of the Python SDK from the asynchronous one, or checks that it is up to date (--check).

The asynchronous modules are the source: the synchronous ones are the same text without `async` and `await`.
"""

import re
import sys
from pathlib import Path

SDK = Path(__file__).resolve().parent.parent / "libs" / "client" / "src" / "infermesh_client"
PAIRS = {SDK / "aio.py": SDK / "client.py", SDK / "smart" / "aio.py": SDK / "smart" / "sync.py"}
"""The synchronous module by the asynchronous one."""
NOTE = "# Made from {source} by tools/sync_client.py: edit that file, then run `make sync-client`.\n"
PHRASES = {
    "Create it inside a running event loop.": "Threads may share a client.",
    "`aclose`, or cancelling the task, cancels it": "closing the iterator cancels it",
    "until `aclose`": "until the iterator is closed",
    "an `async with` block": "a `with` block",
    " A file is read in a thread.": "",
    "import asyncio\n": "",
    "Coroutine functions are awaited, others run in a thread": "Functions run in this thread",
}
"""Sentences that differ."""
WORDS = (
    (r"\bawait ", ""),
    (r"\basyncio\.to_thread\(([\w.]+), ", r"\1("),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bAsynchronous\b", "Synchronous"),
    (r"\basynchronous\b", "synchronous"),
    (r"\bAsync(Client|Generator|Iterator)\b", r"\1"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(closing|close)\b", r"\1"),
    (r"\bopen_aio_channel\b", "open_channel"),
    (r"\bcall_in_turn\b", "call_at_once"),
    (r"\bcoroutines=True\b", "coroutines=False"),
    (r"\bsmart_chat\b", "smart_chat_sync"),
    (r"\binfermesh_client\.aio\b", "infermesh_client.client"),
    (r"\bfor (\w+) in (.+):\n +yield \1\n", r"yield from \2\n"),
)


def synchronous(text: str) -> str:
    """A module without `async` and `await`."""
    for phrase, instead in PHRASES.items():
        text = text.replace(phrase, instead)
    for pattern, instead in WORDS:
        text = re.sub(pattern, instead, text)
    return text


def made_from(source: Path) -> str:
    """The whole text of the synchronous module, with a note under its docstring that says where it comes from."""
    docstring, rest = synchronous(source.read_text(encoding="utf-8")).split("\n", 1)
    return f"{docstring}\n{NOTE.format(source=source.relative_to(SDK))}{rest}"


def main() -> int:
    fresh = {target: made_from(source) for source, target in PAIRS.items()}
    if "--check" not in sys.argv:
        for target, text in fresh.items():
            target.write_text(text, encoding="utf-8")
        return 0
    stale = [target for target, text in fresh.items() if target.read_text(encoding="utf-8") != text]
    for target in stale:
        print(f"{target} is not what its source makes; run `make sync-client`", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
