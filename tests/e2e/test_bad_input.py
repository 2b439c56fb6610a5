"""Bad input gets the exact status, type, code and param through Envoy, and the mesh keeps serving."""

import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

pytestmark = pytest.mark.timeout(120)

MODEL = "smollm2-135m-instruct"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "Hi"}]
DEEP = b'{"model": ' + b"[" * 100_000
MEBIBYTE = 1 << 20


def chat(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **fields}


def completion(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "prompt": "Hi", "max_tokens": 4, **fields}


def without(body: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in body.items() if key != name}


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error of a response, whose shape is checked."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert set(response.json()) == {"error"}
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def assert_error(response: httpx.Response, status: int, code: str, param: str | None) -> str:
    error = error_of(response)
    found = (response.status_code, error["type"], error["code"], error["param"])
    assert found == (status, "invalid_request_error", code, param), error
    return str(error["message"])


@pytest.fixture(scope="module", autouse=True)
def still_answers(mesh: Mesh) -> Iterator[None]:
    """Checks that the mesh still answers after all tests of this module."""
    yield
    with mesh.http() as http:
        assert http.post(CHAT, json=chat()).status_code == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"model": "a",}', b'{"a": 1} {"b": 2}', b"[]", b'"text"', b"null", b"17", DEEP,
     b'{"model": "a", "model": "b"}', b'{"temperature": NaN}', b'{"model": "\\ud800"}'],
    ids=lambda body: body[:24].decode(),
)  # fmt: skip
def test_malformed_json(http: httpx.Client, path: str, body: bytes) -> None:
    assert_error(http.post(path, content=body), 400, "invalid_json", None)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("body", [b'{"model": "\xff"}', b"\xff\xfe{\x00}\x00", b'{"a": "\xc3"}', b"\x80"])
def test_invalid_utf8(http: httpx.Client, path: str, body: bytes) -> None:
    assert_error(http.post(path, content=body), 400, "invalid_json", None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(model=3), "model"),
        (chat(messages="Hi"), "messages"),
        (chat(messages=[3]), "messages[0]"),
        (chat(messages=[{"role": "user", "content": 3}]), "messages[0].content"),
        (chat(messages=[{"role": "nobody", "content": "Hi"}]), "messages[0].role"),
        (chat(messages=[]), "messages"),
        (chat(max_tokens="4"), "max_tokens"),
        (chat(max_tokens=1.5), "max_tokens"),
        (chat(stream="yes"), "stream"),
        (chat(temperature="hot"), "temperature"),
        (chat(stop=[1]), "stop[0]"),
        (chat(stop=["a"] * 17), "stop"),
        (chat(logit_bias={"5": 101}), "logit_bias.5"),
        (chat(logit_bias={"x": 1}), "logit_bias"),
        (chat(response_format={"type": "xml"}), "response_format"),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage"),
        # out of range
        (chat(temperature=-1), "temperature"),
        (chat(temperature=2.1), "temperature"),
        (chat(top_p=2), "top_p"),
        (chat(top_p=-0.1), "top_p"),
        (chat(n=0), "n"),
        (chat(n=129), "n"),
        (chat(max_tokens=0), "max_tokens"),
        (chat(max_completion_tokens=0), "max_completion_tokens"),
        (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
        (chat(logprobs=True, top_logprobs=-1), "top_logprobs"),
        (chat(presence_penalty=2.5), "presence_penalty"),
        (chat(frequency_penalty=-2.5), "frequency_penalty"),
        (chat(seed=1 << 70), "seed"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_wrong_type_or_range(http: httpx.Client, body: dict[str, object], param: str) -> None:
    message = assert_error(http.post(CHAT, json=body), 400, "invalid_argument", param)
    assert param in message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": 3}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": [10**6]}, "prompt"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value,
)
def test_wrong_type_or_range_of_completions(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    assert_error(http.post(COMPLETIONS, json=completion(**fields)), 400, "invalid_argument", param)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, without(chat(), "model"), "model"),
        (CHAT, without(chat(), "messages"), "messages"),
        (CHAT, chat(messages=[{"content": "Hi"}]), "messages[0].role"),
        (COMPLETIONS, without(completion(), "model"), "model"),
        (COMPLETIONS, without(completion(), "prompt"), "prompt"),
    ],
)
def test_missing_field(http: httpx.Client, path: str, body: dict[str, object], param: str) -> None:
    message = assert_error(http.post(path, json=body), 400, "missing_required_parameter", param)
    assert param in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "make"), [(CHAT, chat), (COMPLETIONS, completion)])
def test_unknown_model(http: httpx.Client, path: str, make: Callable[..., dict[str, object]], stream: bool) -> None:
    message = assert_error(http.post(path, json=make(model="gpt-x/y", stream=stream)), 404, "model_not_found", "model")
    assert "gpt-x/y" in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [
    (CHAT, chat(messages=[{"role": "user", "content": "word " * 9000}])),
    (COMPLETIONS, completion(prompt="word " * 9000)),
])  # fmt: skip
def test_prompt_beyond_the_context(http: httpx.Client, path: str, body: dict[str, object], stream: bool) -> None:
    error = error_of(response := http.post(path, json={**body, "stream": stream}))
    assert (response.status_code, error["type"], error["code"]) == (
        400,
        "invalid_request_error",
        "context_length_exceeded",
    )
    assert "8192" in error["message"]
    asked = [int(word) for word in error["message"].replace(",", " ").replace(".", " ").split() if word.isdigit()]
    assert any(9000 <= tokens < 9100 for tokens in asked), error["message"]


@pytest.mark.parametrize(
    ("keyword", "schema"),
    [
        ("type", {"type": "no such type"}),
        ("properties", {"type": "object", "properties": 3}),
        ("$ref", {"$ref": "#/nowhere"}),
        ("pattern", {"pattern": "(", "type": "string"}),
        ("uniqueItems", {"type": "array", "uniqueItems": True}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_schema_that_cannot_be_honoured(
    http: httpx.Client, keyword: str, schema: dict[str, object], stream: bool
) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = error_of(response := http.post(CHAT, json=chat(response_format=wanted, stream=stream)))
    assert (response.status_code, error["type"], error["code"]) == (400, "invalid_request_error", "invalid_argument")
    assert error["param"].startswith("response_format")
    assert keyword in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, chat(temprature=1), "temprature"),
        (CHAT, chat(messages=[{"role": "user", "content": "Hi", "mood": "good"}]), "messages[0].mood"),
        (COMPLETIONS, completion(messages=MESSAGES), "messages"),
    ],
)
def test_unknown_field_is_named(http: httpx.Client, path: str, body: dict[str, object], param: str) -> None:
    response = http.post(path, json=body | {"max_tokens": 1})
    assert response.status_code == 200
    assert response.headers["x-infermesh-ignored-fields"] == param


def test_tools_of_a_model_whose_template_takes_none(http: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert_error(http.post(CHAT, json=chat(tools=tools)), 400, "invalid_argument", "tools")
    assert_error(http.post(CHAT, json=chat(audio={"voice": "x"})), 400, "unsupported_parameter", "audio")
    assert http.post(CHAT, json=chat(tools=tools, tool_choice="none", max_tokens=1)).status_code == 200


def test_unknown_device(http: httpx.Client) -> None:
    error = error_of(response := http.post(CHAT, json=chat(device="cuda")))
    assert (response.status_code, error["code"]) == (400, "device_not_available")
    assert "cpu" in error["message"]


@pytest.mark.parametrize("mebibytes", [65, 100])
def test_body_too_large(http: httpx.Client, mebibytes: int) -> None:
    for content in (b" " * (mebibytes * MEBIBYTE), (b" " * MEBIBYTE for _ in range(mebibytes))):
        message = assert_error(http.post(CHAT, content=content), 413, "request_too_large", None)
        assert "64 MiB" in message


def test_compressed_bodies(http: httpx.Client) -> None:
    """Of any ratio, up to the limit."""
    gzipped = {"content-encoding": "gzip"}
    padded = json.dumps(chat()).encode().ljust(8 * MEBIBYTE)
    assert http.post(CHAT, content=gzip.compress(padded), headers=gzipped).status_code == 200
    bomb = gzip.compress(b" " * (65 * MEBIBYTE))
    assert "(64 MiB)" in assert_error(http.post(CHAT, content=bomb, headers=gzipped), 413, "request_too_large", None)
    brotli = {"content-encoding": "br"}
    message = assert_error(http.post(CHAT, content=b"{}", headers=brotli), 415, "unsupported_encoding", None)
    assert "gzip, deflate or zstd" in message


def test_body_of_the_largest_size(http: httpx.Client) -> None:
    """It is read in full, so the error is about a field."""
    body = b'{"model": "%s", "messages": [{"role": "user", "content": "Hi"}], "n": 0}' % MODEL.encode()
    padded = body + b" " * (64 * MEBIBYTE - len(body))
    assert_error(http.post(CHAT, content=padded), 400, "invalid_argument", "n")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/engines", 404, "not_found"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("POST", "/v1", 404, "not_found"),
    ],
)
def test_bad_path_or_method(http: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    assert_error(http.request(method, path), status, code, None)


def test_unknown_fields_can_be_refused(new_mesh: NewMesh) -> None:
    mesh = new_mesh([(SIMULATED, {})], unknown_fields="reject")
    mesh.start()
    mesh.wait_ready()
    with mesh.http() as http:
        body = {"model": "simulated", "prompt": "Hi", "max_tokens": 2}
        assert_error(http.post(COMPLETIONS, json={**body, "color": 3}), 400, "unknown_parameter", "color")
        hinted = http.post(COMPLETIONS, json={**body, "store": True})
        assert hinted.headers["x-infermesh-ignored-fields"] == "store"
        plain = http.post(COMPLETIONS, json=body)
        assert "x-infermesh-ignored-fields" not in plain.headers
    mesh.stop()
