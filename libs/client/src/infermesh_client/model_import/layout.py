"""Chooses which files of a folder or repository make up a model, from their names and its small JSON files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from infermesh_client.model_import.hugging_face.pickles import pickled_weights
from infermesh_client.model_import.hugging_face.weights import ReadFile, choose_weights
from infermesh_client.tokenizer_files.settle import tokenizer_sources
from infermesh_client.weight_files.splits import one_model, shard_names
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_manifest import ModelFormat

_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
)
_IR_FILES = ("openvino_model.xml", "openvino_model.bin")
_BESIDE_GGUF: tuple[str, ...] = ("tokenizer.json", "chat_template.jinja", "generation_config.json")
WEIGHTS = (".gguf", ".safetensors", "openvino_model.xml", "openvino_model.bin")
"""How the names of files end that hold weights, or the graph that goes with them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a model to copy."""

    format: ModelFormat
    files: Mapping[str, str]
    """Source name to target path, both relative."""


def plan_layout(
    names: Sequence[str], read: ReadFile, *, place: str, gguf: str | None = None, include: str | None = None
) -> Layout:
    """Chooses a model's files from the names at the top level of `place`: OpenVINO IR, else safetensors, else one GGUF.

    `read` is called for the index of safetensors only. `gguf` names the GGUF file to take, or one shard of it.
    `include` is a pattern such as *Q4_K_M*, which the names of weights must match. Raises InvalidArgument when there is
    no model, when files of it are missing, or when there is more than one GGUF file.
    """
    present = {name for name in names if "/" not in name and _included(name, include)}
    side = {name: name for name in _SIDE_FILES if name in present}
    if "tokenizer.json" not in side:
        side |= {name: name for name in tokenizer_sources(present)}
    if gguf is not None:
        if gguf not in present:
            raise InvalidArgument(f"{place} has no file {gguf!r}")
        return _gguf_layout(gguf, present)
    if present.issuperset(_IR_FILES):
        return _checked("openvino", {**side, **{name: f"openvino/{name}" for name in _IR_FILES}}, place)
    weights = choose_weights(present, read, place)
    if weights:
        return _checked("safetensors", {**side, **weights}, place)
    ggufs = sorted(name for name in present if name.endswith(".gguf"))
    if one_model(ggufs):
        return _gguf_layout(ggufs[0], present)
    if ggufs:
        raise InvalidArgument(
            f"{place} holds {len(ggufs)} GGUF files; choose one by adding :FILE to the source: {', '.join(ggufs)}"
        )
    if include is not None and not any(fnmatch(name, include) for name in names):
        raise InvalidArgument(f"{place} has no file at its top level that matches {include!r}")
    raise InvalidArgument(
        f"{place} has no openvino_model.xml with its .bin, no *.safetensors and no .gguf file at its top level"
        + pickled_weights(present)
    )


def _gguf_layout(gguf: str, present: set[str]) -> Layout:
    files = {name: name for name in _BESIDE_GGUF if name in present}
    shards = shard_names(gguf)
    if len(shards) == 1:
        return Layout("gguf", {gguf: "model.gguf", **files})
    if missing := [name for name in shards if name not in present]:
        raise InvalidArgument(f"{gguf} is one of {len(shards)} shards, and these are missing: {', '.join(missing)}")
    return Layout("gguf", {**{name: name for name in shards}, **files})


def _included(name: str, include: str | None) -> bool:
    return include is None or not name.endswith(WEIGHTS) or fnmatch(name, include)


def _checked(model_format: ModelFormat, files: Mapping[str, str], place: str) -> Layout:
    missing = [name for name in ("config.json", "tokenizer.json") if name not in files]
    if "tokenizer.json" in missing and tokenizer_sources(files):
        missing.remove("tokenizer.json")
    if missing:
        raise InvalidArgument(
            f"{place} has no {' and no '.join(missing)}; to make a tokenizer.json, use transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    return Layout(model_format, files)
