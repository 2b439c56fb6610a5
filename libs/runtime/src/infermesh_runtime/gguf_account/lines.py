"""Says in words what the account of a GGUF file found."""

from collections.abc import Sequence

from infermesh_runtime.gguf_account.account import Account


def account_lines(account: Account) -> Sequence[str]:
    """The decoder's size, the keys that were applied, and those known to be without effect."""
    spec = account.spec
    experts = spec.layers[0].experts
    mixture = f", {experts.count} experts ({experts.used} for each token)" if experts else ""
    return (
        f"{spec.architecture}: {len(spec.layers)} layers, {spec.heads} heads ({spec.kv_heads} with keys and values)"
        f"{mixture}",
        f"applied: {', '.join(sorted(account.applied))}",
        f"without effect on the weights: {', '.join(sorted(account.without_effect))}",
    )
