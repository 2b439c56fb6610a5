"""Refuses models whose files cannot be right, before a converter or a worker crashes on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from infermesh_runtime.errors import InvalidArgument

_MAX_COUNT = 2**31 - 1
_COUNTS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
)
"""Counts in config.json by which converters and runners divide, or of which they allocate as many."""


def check_config(config: Mapping[str, Any]) -> None:
    """Raises InvalidArgument when a count is not positive or too large, or heads do not divide as they must."""
    for name in _COUNTS:
        if is_integer(config.get(name)):
            check_count(name, config[name])
    heads, kv_heads = config.get("num_attention_heads"), config.get("num_key_value_heads")
    if isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads:
        raise InvalidArgument(f"num_attention_heads is {heads}, not a multiple of num_key_value_heads, {kv_heads}")


def is_integer(value: object) -> bool:
    """Whether the value is a whole number; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_count(name: str, value: int) -> int:
    """Returns the value. Raises InvalidArgument unless it is from 1 to 2^31 - 1."""
    if not 1 <= value <= _MAX_COUNT:
        raise InvalidArgument(f"{name} is {value}; expected a number from 1 to {_MAX_COUNT}")
    return value


def check_ir(folder: Path) -> None:
    """Raises InvalidArgument unless the folder holds OpenVINO IR: a network in XML, and all weights that it names."""
    xml, weights = folder / "openvino_model.xml", folder / "openvino_model.bin"
    layers, needed_bytes = 0, 0
    try:
        for _, element in ET.iterparse(xml):  # noqa: S314 - expat resolves no external entities and bounds others
            layers += element.tag == "layer"
            if element.tag == "data" and "offset" in element.attrib and "size" in element.attrib:
                needed_bytes = max(needed_bytes, int(element.attrib["offset"]) + int(element.attrib["size"]))
            element.clear()
    except (ET.ParseError, ValueError) as error:
        raise InvalidArgument(f"{xml.name} is no OpenVINO IR: {error}") from error
    if not layers:
        raise InvalidArgument(f"{xml.name} is no OpenVINO IR: it has no layers")
    if (size := weights.stat().st_size) < needed_bytes:
        raise InvalidArgument(f"{weights.name} is cut short: it has {size} bytes, and {xml.name} names {needed_bytes}")


def check_link(path: Path) -> None:
    """Raises InvalidArgument when a file of a model's folder is a symbolic link to a file outside of it.

    Imported files can be read by every user, so a link must not bring in what its owner keeps private. The Hub's cache
    is one folder for each repository, in which snapshots link to blobs.
    """
    if not path.is_symlink():
        return
    folder, target = path.parent.resolve(), path.resolve()
    repository = next((parent for parent in folder.parents if parent.name.startswith("models--")), folder)
    if not target.is_relative_to(repository):
        raise InvalidArgument(
            f"{path} is a symbolic link to {target}, outside of the model's folder; put the file itself there"
        )
