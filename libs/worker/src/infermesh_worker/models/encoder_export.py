"""Reads the ONNX export of an encoder as its makers lay it out: its graph, its inputs, and the output to use."""

import json
from collections.abc import Collection, Sequence
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition

IDS, MASK, TYPES, POSITIONS = "input_ids", "attention_mask", "token_type_ids", "position_ids"
"""Names of the inputs, integers [texts, tokens]; few exports have the last one."""
GRAPHS = ("onnx/model.onnx", "model.onnx")
"""Where exports keep the graph, relative to their folder."""
_VECTORS, _SCORES = ("last_hidden_state", "token_embeddings"), ("logits",)
_VECTOR_RANK, _SCORE_RANK = 3, 2


def export_graph(folder: Path) -> Path:
    """The file of an export's graph. Raises FailedPrecondition if there is none."""
    graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
    if graph is None:
        raise FailedPrecondition(
            f"{folder} has neither *.safetensors nor {' nor '.join(GRAPHS)}", reason="MODEL_NOT_SUPPORTED"
        )
    return graph


def check_inputs(graph: Path, inputs: Sequence[Collection[str]]) -> None:
    """Raises FailedPrecondition for a graph that is no encoder's; `inputs`: the names of each."""
    known = {IDS, MASK, TYPES, POSITIONS}
    names = {name for each in inputs for name in each}
    if IDS not in names or any(known.isdisjoint(each) for each in inputs):
        raise FailedPrecondition(
            f"{graph.name} takes {', '.join(sorted(names))}; an encoder takes {', '.join(sorted(known))}",
            reason="MODEL_NOT_SUPPORTED",
        )


def output_index(graph: Path, outputs: Sequence[tuple[Collection[str], int]], *, scores: bool) -> int:
    """Which output to read: vectors [texts, tokens, hidden], or, with `scores`, [texts, 1].

    `outputs`: names and rank of each. Raises FailedPrecondition if there is none.
    """
    wanted, rank = (_SCORES, _SCORE_RANK) if scores else (_VECTORS, _VECTOR_RANK)
    for index, (names, found) in enumerate(outputs):
        if found == rank and not set(wanted).isdisjoint(names):
            return index
    raise FailedPrecondition(
        f"{graph.name} has no output {' or '.join(wanted)} of {rank} dimensions", reason="MODEL_NOT_SUPPORTED"
    )


def stated(folder: Path, name: str) -> int:
    """A number in config.json, such as "vocab_size" or "pad_token_id"; 0 if it is not there."""
    path = folder / "config.json"
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return int(found.get(name) or 0)
