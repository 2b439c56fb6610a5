"""Log likelihoods of continuations, computed in numpy from the model's file: `python reference.py MODEL.gguf < PAIRS`.

It runs in the development venv, where infermesh is installed. PAIRS is a JSON list of [context, continuation], each a
list of token ids; the answer is a JSON list of numbers.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from infermesh_client.verification import numpy_decoder as decoder
from infermesh_client.verification.gguf_weights import GgufWeights


def log_likelihoods(weights: GgufWeights, pairs: list[tuple[list[int], list[int]]]) -> list[float]:
    """For each pair the sum of the log probabilities of the continuation's tokens, each after all tokens before it."""
    shape = decoder._shape(weights)
    fed = [[*context, *continuation][:-1] for context, continuation in pairs]
    ends = np.cumsum([0, *map(len, fed)])
    spans = [slice(begin, end) for begin, end in pairwise(ends)]
    hidden = weights.rows("token_embd.weight", [token for each in fed for token in each])
    for layer in range(shape.layers):
        hidden = decoder._run_layer(weights, f"blk.{layer}.", shape, hidden, spans)
    final = decoder._norm(hidden, weights["output_norm.weight"], shape.epsilon)
    logits = np.concatenate([final @ rows.T for rows in decoder._pieces(weights)], axis=1).astype(np.float64)
    scores = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    rows = [scores[span][len(context) - 1 :] for span, (context, _) in zip(spans, pairs, strict=True)]
    answers = [continuation for _, continuation in pairs]
    return [float(row[np.arange(len(ids)), ids].sum()) for row, ids in zip(rows, answers, strict=True)]


def main() -> None:
    weights = GgufWeights(Path(sys.argv[1]))
    json.dump(log_likelihoods(weights, json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()
