"""The rows of a draft for a device that samples: how each is sampled if all guesses before it are right."""

from infermesh_engine.runners.sampling_runner import SampledRows
from infermesh_engine.sampling.sampling_batch import RowState
from infermesh_engine.scheduling.plan import Draft


def guessed_rows(draft: Draft, first: int) -> list[RowState]:
    """The rows after a draft's `first`, with the states that its guesses lead to.

    It ends with a guess that the grammar does not allow or that completes the output: nothing comes after that.
    """
    state = draft.sequence.sampler
    rows = []
    for row, guess in enumerate(draft.token_ids, first + 1):
        try:
            state = state.after(guess)
        except Exception:  # an error of one request's grammar must not end the others; its own token will raise it
            break
        if state.finished_by_grammar:
            break
        rows.append((row, state))
    return rows


def right_guesses(draft: Draft, first: int, tokens: SampledRows) -> int:
    """How many guesses are right, by the tokens of a draft's rows."""
    got = tokens.token_ids[first : first + len(draft.token_ids)].tolist()
    wrong = (at for at, (guess, token) in enumerate(zip(draft.token_ids, got, strict=True)) if guess != token)
    return next(wrong, len(got))
