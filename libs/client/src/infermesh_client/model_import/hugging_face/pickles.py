"""Says what to do with weights in Python's pickle format, which are never loaded, because loading one can run code."""

from collections.abc import Collection

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def pickled_weights(names: Collection[str]) -> str:
    """The end of an error message that names the pickled weights and the way out; "" when there are none."""
    found = sorted(
        name
        for name in names
        if name.endswith(_PICKLED) and name not in {"openvino_model.bin", "training_args.bin"} and "optim" not in name
    )
    if not found:
        return ""
    return (
        f"; pickled weights ({found[0]}) are not loaded, because that can run code. If you trust their author, convert "
        'them in a copy of the folder, where transformers is installed: python -c "from transformers import '
        "AutoModelForCausalLM as M; M.from_pretrained('.').save_pretrained('.')\" writes model.safetensors"
    )
