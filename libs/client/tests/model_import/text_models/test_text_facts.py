"""What an import finds in folders of sentence-transformers and transformers: kind, pooling, prompts, lengths."""

import json
from pathlib import Path
from typing import Any

import pytest

from infermesh_client.model_import.source import HuggingFaceFolder, TensorModel, TextModel, parse_source
from infermesh_client.model_import.text_models.facts import read_facts, stated_length
from infermesh_client.model_import.text_models.kind import text_kind
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.manifest.text_encoder import EncoderFacts


def folder(root: Path, weights: str = "model.safetensors", **files: Any) -> Path:
    """A folder with weights, and JSON files by their names; "__" stands for a slash."""
    content = {"config": {"model_type": "bert", "architectures": ["BertModel"]}, **files}
    for name, document in content.items():
        path = root / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    if weights:
        (root / weights).parent.mkdir(exist_ok=True)
        (root / weights).touch()
    return root


def modules(*types: str) -> list[dict[str, Any]]:
    return [
        {"idx": index, "path": "" if name == "Transformer" else f"{index}_{name}", "type": f"st.modules.x.{name}"}
        for index, name in enumerate(types)
    ]


WHOLE = modules("Transformer", "Pooling", "Normalize")


@pytest.mark.parametrize(
    ("config", "more", "kind"),
    [
        ({"model_type": "bert", "architectures": ["BertModel"]}, {}, "embed"),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"]}, {}, "embed"),
        ({"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, {}, "rerank"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForSequenceClassification"]}, {"modules": WHOLE}, "rerank"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, {"modules": WHOLE}, "embed"),
        ({"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}, {}, None),
        ({"model_type": "llama", "architectures": ["LlamaModel"]}, {}, None),
        ({"model_type": "bert", "architectures": ["BertForTokenClassification"]}, {}, None),
    ],
)
def test_the_kind_is_found(config: dict[str, Any], more: dict[str, Any], kind: str | None, tmp_path: Path) -> None:
    made = folder(tmp_path, config=config, **more)
    assert text_kind(made) == kind
    assert isinstance(parse_source(str(made)), HuggingFaceFolder if kind is None else TextModel)


def test_an_onnx_export_with_a_tokenizer_is_one_of_texts(tmp_path: Path) -> None:
    made = folder(tmp_path, "onnx/model.onnx", tokenizer={})
    assert isinstance(parse_source(str(made)), TextModel)
    (made / "onnx/model.onnx").rename(made / "model.onnx")
    assert isinstance(parse_source(str(made)), TextModel)
    (made / "tokenizer.json").unlink()
    assert isinstance(parse_source(str(made)), TensorModel)


@pytest.mark.parametrize(
    ("pooling", "found"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_the_pooling_is_that_of_the_files(pooling: dict[str, Any], found: str, tmp_path: Path) -> None:
    files: dict[str, Any] = {"modules": WHOLE, "1_Pooling__config": pooling}
    made = folder(tmp_path, **files)
    assert read_facts(made, "embed") == EncoderFacts(pooling=found, normalize=True)  # type: ignore[arg-type] # one of them


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"modules": modules("Transformer", "Pooling", "Dense")}, "names the module Dense"),
        ({"modules": {"a": 1}}, "is not sentence-transformers' list of modules"),
        ({"modules": [{"type": "x.Transformer", "path": "0_Transformer"}]}, "keeps its model in 0_Transformer/"),
        ({"modules": WHOLE, "1_Pooling__config": {"pooling_mode_max_tokens": True}}, "pooling_mode_max_tokens"),
        (
            {"modules": WHOLE, "1_Pooling__config": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}},
            "pooling_mode_cls_token and pooling_mode_mean_tokens",
        ),
        ({"modules": WHOLE, "1_Pooling__config": {"include_prompt": False}}, "leaves prompts out"),
    ],
)
def test_what_workers_cannot_do_is_refused(files: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        read_facts(folder(tmp_path, **files), "embed")


def test_prompts_and_lower_case_are_read(tmp_path: Path) -> None:
    made = folder(
        tmp_path,
        config_sentence_transformers={"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"},
        sentence_bert_config={"max_seq_length": 128, "do_lower_case": True},
    )
    assert read_facts(made, "embed") == EncoderFacts(prompts={"query": "q: "}, default_prompt="query", lower_case=True)
    assert stated_length(made) == 128


def test_the_length_is_the_shortest_that_is_stated(tmp_path: Path) -> None:
    made = folder(
        tmp_path,
        config={"model_type": "bert", "max_position_embeddings": 514},
        tokenizer_config={"model_max_length": 512},
    )
    assert stated_length(made) == 512
    (made / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert stated_length(made) == 514


@pytest.mark.parametrize(
    ("files", "activation"),
    [
        ({}, "sigmoid"),
        ({"config_sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}, "sigmoid"),
        ({"config": {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}}, "identity"),
        ({"config": {"sbert_ce_default_activation_function": "torch.nn.Identity"}}, "identity"),
    ],
)
def test_scores_go_through_what_the_files_say(files: dict[str, Any], activation: str, tmp_path: Path) -> None:
    assert read_facts(folder(tmp_path, **files), "rerank").activation == activation


def test_unknown_activations_are_refused(tmp_path: Path) -> None:
    made = folder(tmp_path, config_sentence_transformers={"activation_fn": "torch.nn.Tanh"})
    with pytest.raises(InvalidArgument, match="activation Tanh; workers have Sigmoid and Identity"):
        read_facts(made, "rerank")


def test_a_tokenizer_may_tell_no_token_types(tmp_path: Path) -> None:
    assert read_facts(folder(tmp_path, tokenizer_config={}), "rerank").token_types
    inputs = {"model_input_names": ["input_ids", "attention_mask"]}
    assert not read_facts(folder(tmp_path, tokenizer_config=inputs), "rerank").token_types
