"""Reads and writes `infermesh.json`, the manifest that makes a folder a model.

Model imports write it, workers read it.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, BinaryIO, Literal

import msgspec

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.image_facts import ImageFacts
from infermesh_runtime.manifest.model_kind import BatchLimits, ModelKind, TensorSpec
from infermesh_runtime.manifest.text_encoder import EncoderFacts

MANIFEST = "infermesh.json"
_CHUNK_BYTES = 8 << 20

ModelFormat = Literal["gguf", "safetensors", "openvino", "onnx", "tflite", "tensorflow", "paddle", "pt2", "torchscript"]
Count = Annotated[int, msgspec.Meta(ge=0)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model folder."""

    size_bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the end of an import found when it tried the model."""

    runner: str
    """The kind of runner that answered, or could not be tried: openvino or torch."""
    worker: str = ""
    """The kind of worker that it belongs to: cpu or xpu; "" in older manifests."""
    reference: str
    """What its tokens were compared with, in words; when there was nothing, why."""
    matched: Count
    """How many greedy tokens were the most probable ones to the reference, up to near ties."""
    tokens: Count
    """How many were compared; 0 without a reference."""
    template_kept: bool | None
    """Whether rendered chats come back unchanged from their tokens; None for a base model."""
    end_of_turn: str
    """The token that closes a turn and at which the model stops; "" for a base model, or if there is none."""
    turn_ended: bool | None = None
    """Whether a greedy answer ended by itself, and never went on after the token that closes a turn.

    None for a base model, and if the answer had not ended when the trial did.
    """
    not_tried: str = ""
    """Why the runner could not be tried; "" if it was."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `infermesh.json`."""

    schema: Literal[1] = 1
    name: Annotated[str, msgspec.Meta(min_length=1)]
    """The model's name in requests."""
    source: str
    """What the import was given; for a Hub id, with the commit that it resolved to."""
    format: ModelFormat
    context_length: Count
    """Longest prompt and output together, in tokens; 0 for a model that reads no tokens."""
    eos_token_ids: tuple[Count, ...]
    bos_token_id: Count | None
    size_bytes: Count
    """Size of the weights as imported, without converted copies."""
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    generation: GenerationDefaults | None = None
    """How its answers are sampled where a request does not say; None: the model does not say."""
    special_tokens: dict[str, str] | None = None
    """The tokenizer's special tokens, as chat templates name them: "bos_token", "eos_token", …"""
    answer_style: AnswerStyle | None = None
    """How it writes tool calls and reasoning; None: as its chat template shows when it is first used."""
    revision: str = ""
    """Commit, version or digest of the source; "" where it has none."""
    licence: str = ""
    """The licence that the source names; "" when it names none."""
    tools: dict[str, str] = {}
    """Versions of the packages that made the folder, by name."""
    not_for: tuple[str, ...] = ()
    """Converters that could not take the model, so that their kind of worker cannot serve it."""
    proof: Proof | None = None
    """Of the runner that workers use first; None if the model was not tried."""
    other_proofs: tuple[Proof, ...] = ()
    """Of the other installed runners."""
    kind: ModelKind = "generate"
    """What it does, which decides the calls that it answers."""
    inputs: tuple[TensorSpec, ...] = ()
    """The tensors that a model of kind infer takes, as the import found them."""
    outputs: tuple[TensorSpec, ...] = ()
    """The tensors that it gives."""
    batching: BatchLimits | None = None
    """How its requests run together; None: each runs alone."""
    sample_rate: Count = 0
    """Samples a second of the sound that a model of kind speak gives; 0 for other kinds."""
    encoder: EncoderFacts | None = None
    """How a model of kind embed or rerank reads texts."""
    voices: tuple[str, ...] = ()
    """Names of the voices that a model of kind speak has, its default first."""
    images: ImageFacts | None = None
    """How a model that generates text reads images; None if it takes none."""
    files: dict[str, FileEntry]
    """All files of the folder but the manifest, by relative path with forward slashes."""

    def __post_init__(self) -> None:
        if self.kind == "generate" and not self.context_length:
            raise ValueError("context_length must be at least 1 for a model that generates text")

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """All proofs, that of the first runner first."""
        return () if self.proof is None else (self.proof, *self.other_proofs)

    @property
    def identity(self) -> str:
        """Tells one import from another one of the same name: a hash of all that is written here."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `infermesh.json`, the last step of an import."""
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a model folder. Raises FailedPrecondition when it is missing or invalid."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FailedPrecondition(f"there is no model folder {folder}{models_hint(folder.parent)}")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise FailedPrecondition(
            f"{folder} is not a model folder: it has no {MANIFEST}{models_hint(folder.parent)}"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"{path} cannot be read: {error}") from error
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise FailedPrecondition(f"{path} names a file outside of its folder: {name}")
    return manifest


def model_paths(root: Path) -> list[Path]:
    """The model folders under `root`, by name, without those that an import is still writing."""
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in folders if not folder.name.startswith(".") and (folder / MANIFEST).is_file()]


def models_hint(root: Path) -> str:
    """The end of an error message: which models there are, or how to import one."""
    if names := [folder.name for folder in model_paths(root)]:
        return f"; models in {root}: {', '.join(names)}"
    return f"; {root} holds no models: import one with `infermesh models import SOURCE --name NAME`"


def hash_file(file: BinaryIO, advance: Callable[[int], object] = bool) -> FileEntry:
    """Size and hash of the rest of a file. Calls `advance` with the size of each piece read, in bytes."""
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        advance(len(chunk))
    return FileEntry(size_bytes=size_bytes, sha256=digest.hexdigest())
