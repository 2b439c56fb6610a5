"""Makes folders of tiny random encoders, by hand: no torch is needed."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.manifest.model_manifest import Manifest
from infermesh_runtime.tensors import Array

WORDS = tuple("the a cat dog sat on mat rug ran fast tree house is where who what query passage : sea ship".split())  # noqa: SIM905 - words are easier to read
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
HIDDEN, LAYERS, HEADS, LONGEST = 16, 2, 2, 32
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 24,
    "max_position_embeddings": LONGEST,
    "vocab_size": len(SPECIAL) + len(WORDS),
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def tiny_embedder(folder: Path, *, pooling: str = "pooling_mode_mean_tokens", **settings: Any) -> Path:
    """A BERT as sentence-transformers saves one. `settings`: of config_sentence_transformers.json."""
    _encoder(folder, {**CONFIG})
    _write(folder / "modules.json", MODULES)
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling/config.json", {"word_embedding_dimension": HIDDEN, pooling: True})
    _write(folder / "config_sentence_transformers.json", settings)
    return folder


def tiny_reranker(folder: Path, **settings: Any) -> Path:
    """A cross-encoder on BERT. `settings`: of config.json."""
    shape = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    head = {"pooler.dense.weight": (HIDDEN, HIDDEN), "pooler.dense.bias": (HIDDEN,)}
    _encoder(
        folder,
        {**CONFIG, **shape, **settings},
        "bert.",
        head,
        {"classifier.weight": (1, HIDDEN), "classifier.bias": (1,)},
    )
    return folder


def import_texts(source: Path, root: Path, name: str, **options: Any) -> Manifest:
    """Imports a folder into a models root."""
    view = ProgressView(Console(file=io.StringIO()))
    return import_model(str(source), name, root, view, ImportOptions(home=root.parent, **options))


def tokenizer() -> Tokenizer:
    """Splits at spaces; cuts and fills up by itself, as those of sentence-transformers do."""
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.add_special_tokens(list(SPECIAL))
    made.enable_truncation(8)
    made.enable_padding(length=8)
    return made


def _encoder(
    folder: Path,
    config: dict[str, Any],
    prefix: str = "",
    head: "dict[str, tuple[int, ...]] | None" = None,
    outer: "dict[str, tuple[int, ...]] | None" = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(11)
    shapes = {prefix + name: shape for name, shape in {**_shapes(), **(head or {})}.items()} | (outer or {})
    tensors = {name: 0.5 * random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    save_tensors(folder / "model.safetensors", tensors)
    _write(folder / "config.json", config)
    tokenizer().save(str(folder / "tokenizer.json"))


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], HIDDEN),  # type: ignore[dict-item] # a number
        "embeddings.position_embeddings.weight": (LONGEST, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        **_norm("embeddings.LayerNorm"),
    }
    for index in range(LAYERS):
        at = f"encoder.layer.{index}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= {f"{at}.attention.{name}.weight": (HIDDEN, HIDDEN), f"{at}.attention.{name}.bias": (HIDDEN,)}
        shapes |= {f"{at}.intermediate.dense.weight": (24, HIDDEN), f"{at}.intermediate.dense.bias": (24,)}
        shapes |= {f"{at}.output.dense.weight": (HIDDEN, 24), f"{at}.output.dense.bias": (HIDDEN,)}
        shapes |= _norm(f"{at}.attention.output.LayerNorm") | _norm(f"{at}.output.LayerNorm")
    return shapes


def _norm(module: str) -> dict[str, tuple[int, ...]]:
    return {f"{module}.weight": (HIDDEN,), f"{module}.bias": (HIDDEN,)}


def save_tensors(path: Path, tensors: dict[str, Array]) -> None:
    """Writes a safetensors file of float32 tensors."""
    header, place = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in tensors.values()))


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
