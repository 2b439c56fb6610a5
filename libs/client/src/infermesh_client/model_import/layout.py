"""Chooses which files of a folder or repository make up a model, from their names and its small JSON files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infermesh_client.model_import.hugging_face.pickles import pickled_weights
from infermesh_client.model_import.hugging_face.weights import ReadFile, choose_weights
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.model_manifest import ModelFormat

_SIDE_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)
_IR_FILES = ("openvino_model.xml", "openvino_model.bin")
_BESIDE_GGUF: tuple[str, ...] = ("tokenizer.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a model to copy."""

    format: ModelFormat
    files: Mapping[str, str]
    """Source name to target path, both relative."""


def plan_layout(names: Sequence[str], read: ReadFile, *, place: str, gguf: str | None = None) -> Layout:
    """Chooses a model's files from the names at the top level of `place`: OpenVINO IR, else safetensors, else one GGUF.

    `read` is called for the index of safetensors only. `gguf` names the GGUF file to take. Raises InvalidArgument when
    there is no model, when files of it are missing, or when there is more than one GGUF file.
    """
    present = {name for name in names if "/" not in name}
    side = {name: name for name in _SIDE_FILES if name in present}
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
    if len(ggufs) == 1:
        return _gguf_layout(ggufs[0], present)
    if ggufs:
        raise InvalidArgument(
            f"{place} holds {len(ggufs)} GGUF files; choose one by adding :FILE to the source: {', '.join(ggufs)}"
        )
    raise InvalidArgument(
        f"{place} has no openvino_model.xml with its .bin, no *.safetensors and no .gguf file at its top level"
        + pickled_weights(present)
    )


def _gguf_layout(gguf: str, present: set[str]) -> Layout:
    files = {name: name for name in _BESIDE_GGUF if name in present}
    return Layout("gguf", {gguf: "model.gguf", **files})


def _checked(model_format: ModelFormat, files: Mapping[str, str], place: str) -> Layout:
    missing = [name for name in ("config.json", "tokenizer.json") if name not in files]
    if missing:
        raise InvalidArgument(
            f"{place} has no {' and no '.join(missing)}; to make a tokenizer.json, use transformers' "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    return Layout(model_format, files)
