"""Reads how texts become vectors or scores from the files of sentence-transformers and transformers."""

import json
from collections.abc import Mapping
from pathlib import Path

from infermesh_client.model_import.text_models.kind import MODULES, read_object
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.model_kind import RERANK, ModelKind
from infermesh_runtime.manifest.text_encoder import Activation, EncoderFacts, Pooling

_POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_SHORT: Mapping[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_MOST_TOKENS = 1 << 20
_ACTIVATIONS: Mapping[str, Activation] = {"Sigmoid": "sigmoid", "Identity": "identity"}


def read_facts(folder: Path, kind: ModelKind) -> EncoderFacts:
    """What the folder says, but for the number of dimensions. Raises InvalidArgument for what we cannot do."""
    if kind == RERANK:
        inputs = read_object(folder / "tokenizer_config.json").get("model_input_names")
        told = not isinstance(inputs, list) or "token_type_ids" in inputs
        return EncoderFacts(activation=_activation(folder), token_types=told)
    modules = _modules(folder)
    pooling = modules.get("Pooling")
    prompts = read_object(folder / "config_sentence_transformers.json")
    return EncoderFacts(
        pooling=_pooling(folder / pooling) if pooling else "mean",
        normalize="Normalize" in modules,
        prompts={str(name): str(text) for name, text in (prompts.get("prompts") or {}).items() if text},
        default_prompt=str(prompts.get("default_prompt_name") or ""),
        lower_case=bool(read_object(folder / "sentence_bert_config.json").get("do_lower_case")),
    )


def stated_length(folder: Path) -> int:
    """How many tokens the model reads, as its files say; the worker may know better."""
    stated = read_object(folder / "sentence_bert_config.json").get("max_seq_length")
    if isinstance(stated, int) and stated > 0:
        return stated
    config = read_object(folder / "config.json")
    lengths = [
        read_object(folder / "tokenizer_config.json").get("model_max_length"),
        config.get("max_position_embeddings"),
    ]
    return min((int(n) for n in lengths if isinstance(n, int | float) and 0 < n <= _MOST_TOKENS), default=512)


def _modules(folder: Path) -> Mapping[str, str]:
    """The folder of each module that a text goes through, by its type. Raises InvalidArgument for unknown ones."""
    path = folder / MODULES
    if not path.is_file():
        return {}
    try:
        found = {str(entry["type"]).rpartition(".")[2]: str(entry["path"]) for entry in json.loads(path.read_text())}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(f"{path} is not sentence-transformers' list of modules: {error!r}") from error
    if unknown := sorted(set(found) - {"Transformer", "Pooling", "Normalize"}):
        raise InvalidArgument(
            f"{path} names the module {', '.join(unknown)}; workers run Transformer, Pooling and Normalize"
        )
    if found.get("Transformer"):
        raise InvalidArgument(f"{path} keeps its model in {found['Transformer']}/; workers need it beside {MODULES}")
    return found


def _pooling(folder: Path) -> Pooling:
    config = read_object(folder / "config.json")
    if config.get("include_prompt") is False:
        raise InvalidArgument(f"{folder / 'config.json'} leaves prompts out of the mean, which workers cannot")
    if isinstance(config.get("pooling_mode"), str) and config["pooling_mode"] in _SHORT:
        return _SHORT[config["pooling_mode"]]
    chosen = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    if len(chosen) == 1 and chosen[0] in _POOLINGS:
        return _POOLINGS[chosen[0]]
    raise InvalidArgument(
        f"{folder / 'config.json'} asks for the pooling {' and '.join(chosen) or config.get('pooling_mode')}; workers "
        f"have {', '.join(_POOLINGS)}, one at a time"
    )


def _activation(folder: Path) -> Activation:
    """What a cross-encoder's score goes through: what sentence-transformers keeps of it, else a sigmoid."""
    config = read_object(folder / "config.json")
    stated = (
        read_object(folder / "config_sentence_transformers.json").get("activation_fn")
        or (config.get("sentence_transformers") or {}).get("activation_fn")
        or config.get("sbert_ce_default_activation_function")
        or "Sigmoid"
    )
    name = str(stated).rpartition(".")[2]
    if name not in _ACTIVATIONS:
        raise InvalidArgument(f"{folder} gives its scores the activation {name}; workers have Sigmoid and Identity")
    return _ACTIVATIONS[name]
