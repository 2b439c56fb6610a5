"""Says what the proof of an import found, and refuses a model whose tokens are not those of its source."""

from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import Proof


def judge(proof: Proof, least: float, view: ProgressView, *, went_on_after: str) -> None:
    """Says what one runner did. `went_on_after`: the token that closes a turn, if an answer went on after it.

    Raises FailedPrecondition when the share of tokens that are the source's is below `least`.
    """
    if proof.not_tried:
        view.say(f"Not tried on {proof.worker}: {proof.not_tried}")
        return
    if proof.tokens and proof.matched < least * proof.tokens:
        raise FailedPrecondition(
            f"the imported model answers differently from its source: on {proof.worker}, only {proof.matched} of its "
            f"first {proof.tokens} tokens are those of {proof.reference}. --no-verify imports it all the same",
            reason="MODEL_NOT_VERIFIED",
        )
    if proof.tokens:
        view.say(f"Verified {proof.matched}/{proof.tokens} tokens on {proof.worker} against {proof.reference}")
    else:
        view.say(f"Tried on {proof.worker}; reference: {proof.reference}")
    if proof.template_kept is False:
        view.say("Warning: rendered chats do not come back unchanged from their tokens")
    if proof.template_kept is not None and not proof.end_of_turn:
        view.say("Warning: the chat template ends an answer with no token at which the model stops")
    if went_on_after:
        view.say(
            f"Warning: on {proof.worker}, an answer went on after {went_on_after!r}, which closes a turn. "
            "Import the model again with --eos and that token"
        )
