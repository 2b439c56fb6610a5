"""What may be imported over the network, what models may be called, and what is hidden of URLs."""

import pytest

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.importing.network_imports import check_model_name, check_network_source, check_weights, redacted


@pytest.mark.parametrize(
    ("source", "taken"),
    [
        ("org/model", "hf:org/model"),
        ("org/model@main", "hf:org/model@main"),
        ("org/model:q4.gguf", "hf:org/model:q4.gguf"),
        ("hf:org/model", "hf:org/model"),
        ("modelscope:org/model@v1", "modelscope:org/model@v1"),
        ("ollama:llama3:8b", "ollama:llama3:8b"),
        ("pypi:package==1.2", "pypi:package==1.2"),
        ("pypi:package:data/m.onnx#sha256=" + "0" * 64, "pypi:package:data/m.onnx#sha256=" + "0" * 64),
        ("npm:@acme/tiny@1.0.2:onnx/m.onnx", "npm:@acme/tiny@1.0.2:onnx/m.onnx"),
    ],
)
def test_names_are_taken_and_can_mean_no_folder(source: str, taken: str) -> None:
    assert check_network_source(source) == taken


@pytest.mark.parametrize(
    "source",
    [
        "",
        "model",
        "/models/m.gguf",
        "./model",
        "../org/model",
        "~/model",
        "models/m.gguf",
        "org/model/more",
        "org/mod\u00e9l",
        "file:///etc/passwd",
        "https://user:secret@host/model",
        "org/model\n",
        "hf:org/\x00",
        "--trust-code",
        "pypi:package:data/m.pt",
        "pypi:package:data/m.PT2",
        "npm:acme@1.0.2:m.ts",
        "pypi:package:m.pt#sha256=" + "0" * 64,
        "hf:" + "x" * 510,
    ],
)
def test_paths_and_programs_are_refused(source: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        check_network_source(source)
    assert error.value.reason == "SOURCE_NOT_ALLOWED"
    assert error.value.fields.keys() == {"source"}
    assert "secret" not in error.value.message


def test_names_and_weights() -> None:
    assert check_model_name("Qwen2.5-0.5B_x") == "Qwen2.5-0.5B_x"
    assert [check_weights(weights) for weights in ("", "int8", "int4")] == ["", "int8", "int4"]
    for name in ("", ".", "..", ".x", "a/b", "a\\b", "none", "x" * 129, "a b", "m\n"):
        with pytest.raises(InvalidArgument):
            check_model_name(name)
    with pytest.raises(InvalidArgument):
        check_weights("f16")


def test_passwords_and_queries_of_urls_are_hidden() -> None:
    told = "pip: https://me:secret@index/simple/ failed; see 'http://cdn/file?sig=secret&x=1', or s3://key@bucket/a"
    assert redacted(told) == "pip: https://***@index/simple/ failed; see 'http://cdn/file?***', or s3://***@bucket/a"
    assert redacted("me@example.org asks: what? https://host/a") == "me@example.org asks: what? https://host/a"
