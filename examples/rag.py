"""Answers a question from a folder of Markdown: finds the passages that fit it best, and lets a model read them.

    infermesh models import FOLDER_OF_MINILM --name minilm     # once; any embedding model will do
    python examples/rag.py docs "Which endpoint gets a request?" --embedder minilm

Vectors and answer come from the mesh at --endpoint. Nothing is kept: a few thousand passages take seconds to embed.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infermesh_client import ChatMessage, Client
from infermesh_runtime.errors import InfermeshError

PASSAGE_CHARS = 800
PROMPT = "Answer the question from these passages, in one or two sentences. Say so if they do not answer it."
HEADING = re.compile(r"^#+ ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a file that is short enough to be embedded, beginning with the heading that it is under."""

    file: Path
    text: str


def passages(folder: Path) -> Iterator[Passage]:
    """The passages of all Markdown files under a folder."""
    for file in sorted(folder.rglob("*.md")):
        for section in HEADING.split(file.read_text(encoding="utf-8")):
            title, _, body = section.strip().partition("\n")
            text = ""
            for paragraph in [part for part in body.split("\n\n") if part.strip()] or [""]:
                if text and len(text) + len(paragraph) > PASSAGE_CHARS:
                    yield Passage(file, f"{title}\n{text}")
                    text = ""
                text += paragraph[:PASSAGE_CHARS] + "\n\n"
            if title:
                yield Passage(file, f"{title}\n{text}".strip())


def best_passages(client: Client, embedder: str, found: Sequence[Passage], question: str, top: int) -> list[Passage]:
    """The passages whose vectors point most nearly where the question's does."""
    texts = [passage.text for passage in found]
    vectors = client.embed(texts, model=embedder, kind="document", normalize=True, truncation="end")
    (asked,) = client.embed(question, model=embedder, kind="query", normalize=True, truncation="end")
    return [found[index] for index in np.argsort(-(vectors @ asked))[:top]]


def answer(client: Client, model: str, chosen: Sequence[Passage], question: str) -> Iterator[str]:
    """The pieces of the answer, as the model writes them."""
    shown = "\n\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(chosen, 1))
    content = f"{PROMPT}\n\n{shown}\n\nQuestion: {question}"
    message: ChatMessage = {"role": "user", "content": content}
    for event in client.generate([message], model=model, temperature=0.0, max_tokens=200):
        yield getattr(event, "text", "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the answer and the files that it is from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of Markdown")
    parser.add_argument("question")
    parser.add_argument("--embedder", default="", help="the embedding model; default: the only one")
    parser.add_argument("--model", default="", help="the model that answers; default: the only one")
    parser.add_argument("--endpoint", default="127.0.0.1:8081")
    parser.add_argument("--top", type=int, default=3, help="how many passages it reads; default: 3")
    options = parser.parse_args(arguments)
    if not (found := list(passages(options.folder))):
        parser.error(f"there is no Markdown under {options.folder}")
    try:
        with Client(options.endpoint) as client:
            chosen = best_passages(client, options.embedder, found, options.question, options.top)
            for piece in answer(client, options.model, chosen, options.question):
                print(piece, end="", flush=True)
    except InfermeshError as error:
        print(error.message, file=sys.stderr)
        return 1
    print("\n\nfrom: " + ", ".join(dict.fromkeys(str(passage.file) for passage in chosen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
