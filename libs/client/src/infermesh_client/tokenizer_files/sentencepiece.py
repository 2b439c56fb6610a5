"""Converts a SentencePiece model (tokenizer.model) to a tokenizer, with the pieces' scores as its rules."""

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors

from infermesh_client.gguf_metadata.reader import GgufTokenizer
from infermesh_client.gguf_metadata.tokenizer import build_tokenizer
from infermesh_runtime.errors import InvalidArgument

_SPACE = "▁"
_UNIGRAM, _BPE = 1, 2
_CONTROL, _USER_DEFINED = 3, 4
_FIELDS: dict[str, dict[str, tuple[int, str, str]]] = {
    "Piece": {"piece": (1, "string", ""), "score": (2, "float", ""), "type": (3, "int32", "1")},
    "Trainer": {
        "model_type": (3, "int32", "1"),
        "byte_fallback": (35, "bool", "false"),
        "unk_id": (40, "int32", "0"),
        "bos_id": (41, "int32", "1"),
        "eos_id": (42, "int32", "2"),
    },
    "Normalizer": {
        "precompiled_charsmap": (2, "bytes", ""),
        "add_dummy_prefix": (3, "bool", "true"),
        "remove_extra_whitespaces": (4, "bool", "true"),
    },
    "Model": {"pieces": (1, "Piece", ""), "trainer": (2, "Trainer", ""), "normalizer": (3, "Normalizer", "")},
}
"""The fields that we need of sentencepiece_model.proto: number, type and default. Enums are read as numbers."""


def read_sentencepiece(content: bytes) -> Tokenizer:
    """The tokenizer. Raises InvalidArgument when the content is no SentencePiece model, or of another kind."""
    model = _model_class()()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise InvalidArgument(f"tokenizer.model is no SentencePiece model: {error}") from error
    if not model.pieces:
        raise InvalidArgument("tokenizer.model is no SentencePiece model: it has no pieces")
    kind = model.trainer.model_type
    if kind not in (_UNIGRAM, _BPE):
        raise InvalidArgument(
            "tokenizer.model splits by words or characters; only BPE and unigram models are supported"
        )
    tokenizer = _bpe(model) if kind == _BPE else _unigram(model)
    _normalise(tokenizer, model)
    return tokenizer


def _bpe(model: Any) -> Tokenizer:
    ids = {"unknown": model.trainer.unk_id, "bos": model.trainer.bos_id, "eos": model.trainer.eos_id}
    return build_tokenizer(
        GgufTokenizer(
            model="llama",
            pre="",
            tokens=[piece.piece for piece in model.pieces],
            types=[piece.type for piece in model.pieces],  # GGUF has the same numbers
            merges=(),
            scores=[piece.score for piece in model.pieces],
            special_ids={name: token_id for name, token_id in ids.items() if 0 <= token_id < len(model.pieces)},
            add_bos=None,
            add_space_prefix=model.normalizer.add_dummy_prefix,
        )
    )


def _unigram(model: Any) -> Tokenizer:
    """Unigram pieces. Control tokens have no score, which must not make them the best pieces of a text."""
    worst = min(piece.score for piece in model.pieces) - 100
    pieces = [(piece.piece, worst if piece.type == _CONTROL else piece.score) for piece in model.pieces]
    trainer = model.trainer
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback))
    strip = [decoders.Strip(" ", 1, 0)] if model.normalizer.add_dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        names = [piece.piece for piece in model.pieces if piece.type == kind and piece.piece]
        tokenizer.add_tokens([AddedToken(name, normalized=False, special=special) for name in names])
    eos = trainer.eos_id
    if 0 <= eos < len(model.pieces):
        name = model.pieces[eos].piece
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", name], pair=["$A", name, "$B", name], special_tokens=[(name, eos)]
        )
    return tokenizer


def _normalise(tokenizer: Tokenizer, model: Any) -> None:
    """SentencePiece's steps in its order: characters, spaces, the space before the text, spaces as pieces have them."""
    stored = model.normalizer
    steps: list[normalizers.Normalizer] = []
    if stored.precompiled_charsmap:
        steps.append(normalizers.Precompiled(stored.precompiled_charsmap))
    if stored.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if stored.add_dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])


@cache
def _model_class() -> Any:
    """The class of the message ModelProto, with the fields that we need."""
    file = descriptor_pb2.FileDescriptorProto(name="infermesh/sentencepiece.proto", package="infermesh.sentencepiece")
    file.syntax = "proto2"
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, default) in fields.items():
            repeated = kinds.LABEL_REPEATED if field == "pieces" else kinds.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=repeated)
            if kind in _FIELDS:
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".infermesh.sentencepiece.{kind}"
            else:
                entry.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
                if default:
                    entry.default_value = default
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("infermesh.sentencepiece.Model"))
