"""Exports a Hugging Face model to OpenVINO IR: `python export_script.py FOLDER TARGET.xml int8|int4`.

It runs in the converter environment, where no package of ours is installed, so it imports none. Each line that it
prints is one JSON object: {"fraction": 0.5}; {"loaded": {...}}, what transformers says of the weights; or at most once
{"error": "..."}. What its libraries print goes to stderr.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO


def main(folder: Path, target: Path, weights: str, out: TextIO) -> int:
    """Returns the exit code: 0, or 1 after an error that it has told."""

    def tell(**message: object) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    tell(fraction=0.0)
    try:
        from optimum.exporters.openvino import main_export  # noqa: PLC0415 - slow, and only there in its environment
        from optimum.intel import OVConfig  # noqa: PLC0415 - same

        check_rotation(folder)
        tell(loaded=loading_report(folder))
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            main_export(
                str(exportable(folder, Path(scratch) / "model")),
                output=scratch,
                task="text-generation-with-past",
                ov_config=OVConfig(dtype="fp32"),  # otherwise it compresses large models by itself
                local_files_only=True,
            )
            tell(fraction=0.5)
            compress(Path(scratch) / "openvino_model.xml", target, weights)
    except Exception as error:  # a boundary: what the parent is told is all that the user sees
        tell(error=last_line(error))
        return 1
    tell(fraction=1.0)
    return 0


def exportable(folder: Path, scratch: Path) -> Path:
    """The folder itself, or one in `scratch` with the same files but for a config.json that exports as it is served.

    LongRoPE turns positions by long factors as soon as one text of a batch is longer than the length for which the
    model was first trained. The import limits the context to that length, so the short factors replace the long ones.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    long_ropes = [rope for rope in _rotations(config) if "long_factor" in rope]
    if not long_ropes:
        return folder
    for rope in long_ropes:
        pairs = (("long_factor", "short_factor"), ("long_mscale", "short_mscale"))
        rope.update({long: rope[short] for long, short in pairs if short in rope})
    scratch.mkdir()
    for file in folder.iterdir():
        (scratch / file.name).symlink_to(file.absolute())
    (scratch / "config.json").unlink()
    (scratch / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return scratch


def _rotations(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of rotary positions in a configuration: one for the model, or one for each kind of layer."""
    parts = [config, config.get("text_config")]
    stated = [part.get(name) for part in parts if part for name in ("rope_parameters", "rope_scaling")]
    ropes = [rope for rope in stated if isinstance(rope, dict)]
    return ropes + [part for rope in ropes for part in rope.values() if isinstance(part, dict)]


def check_rotation(folder: Path) -> None:
    """Raises ValueError for rotary positions that change with the longest text in a batch, as the exported graph would.

    A token's answer would depend on how its text is split into steps, and on the texts beside it.
    """
    for rope in _rotations(json.loads((folder / "config.json").read_text(encoding="utf-8"))):
        kind = str(rope.get("rope_type", rope.get("type")))
        if "dynamic" in kind:
            raise ValueError(
                f"its rotary positions change with the length of the text (rope type {kind}), which a graph for texts "
                "in batches cannot do; worker-xpu runs such a folder, and worker-cpu the model's GGUF file"
            )


def loading_report(folder: Path) -> dict[str, list[str]]:
    """Loads the weights once more than the export does, which does not say what it left out or made up."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 - as above

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), output_loading_info=True, local_files_only=True, trust_remote_code=False
    )
    return {name: sorted(map(str, found)) for name, found in loaded[1].items()}


def compress(source: Path, target: Path, weights: str) -> None:
    """Compresses weights to 8 bits, scaled per channel, or 4 bits, scaled per group (embedding and head: 8 bits)."""
    import nncf  # noqa: PLC0415 - as above
    import openvino as ov  # noqa: PLC0415 - same

    model: Any = ov.Core().read_model(source)
    if weights == "int8":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    else:
        smaller_groups = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
        model = nncf.compress_weights(
            model, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=128, advanced_parameters=smaller_groups
        )
    ov.save_model(model, target)


def last_line(error: BaseException) -> str:
    """The last line of a message, which in OpenVINO's errors tells what was wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


if __name__ == "__main__":
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], channel))
