"""errors.lua on its own, in the same LuaJIT that Envoy embeds: JSON in, JSON out."""

import json
from pathlib import Path
from typing import Any

import lupa.luajit21 as luajit  # type: ignore[import-untyped] # it has no types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh_envoy import EnvoyOptions
from infermesh_envoy.local_errors import ANTHROPIC_ERRORS
from infermesh_runtime.error_types.anthropic import ERROR_TYPES, STATUSES, lua_table, type_of_status
from infermesh_runtime.error_types.openai import lua_tables
from infermesh_runtime.errors import Code

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def errors() -> Any:
    runtime = luajit.LuaRuntime(encoding="utf-8", unpack_returned_tuples=True)
    runtime.execute(EnvoyOptions().lua.read_text())
    return runtime.globals().errors


@pytest.fixture(scope="module")
def errors_on_bytes() -> Any:
    runtime = luajit.LuaRuntime(encoding="latin-1", unpack_returned_tuples=True)
    runtime.execute(Path(EnvoyOptions().lua).read_text())
    return runtime.globals().errors


def converted(error: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(error)["error"]
    return found


@given(message=st.text(), extra=JSON, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_message_survives_any_json_around_it(
    errors: Any, message: str, extra: object, indent: int | None, ascii_only: bool
) -> None:
    document = {"a": extra, "code": 3, "message": message, "z": [extra]}
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    status = errors.status(text, None, None)
    assert converted(errors.object(400, status)) == {
        "message": message,
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_argument",
    }


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_quote_is_json(errors: Any, text: str) -> None:
    assert json.loads(errors.quote(text)) == text


@given(text=st.text(max_size=20))
def test_text_that_is_not_json_never_raises(errors: Any, text: str) -> None:
    error = converted(errors.object(500, errors.status("{" + text, "13", "it%20broke%22")))
    assert (error["code"], error["type"]) in {("internal", "server_error"), ("unknown", "server_error")}


@given(message=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_error_becomes_ollamas(errors: Any, message: str) -> None:
    status = errors.status(json.dumps({"code": 14, "message": message}), None, None)
    assert json.loads(errors.ollama(errors.object(503, status))) == {"error": message}


def test_headers_stand_in_for_a_body_that_is_missing(errors: Any) -> None:
    error = converted(errors.object(404, errors.status("", "5", "no %22model%22 %C3%A9")))
    assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")


def test_answer_without_any_grpc_status(errors: Any) -> None:
    error = converted(errors.object(502, errors.status("<html>", None, None)))
    assert (error["code"], error["message"]) == ("unknown", "The router's answer is not gRPC")


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("0s", "1"), ("0.001s", "1"), ("1s", "1"), ("1.000000001s", "2"), ("60s", "60"), ("soon", None)],
)
def test_retry_after(errors: Any, delay: str, seconds: str | None) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": delay}
    assert errors.retry_after(errors.status(json.dumps({"code": 14, "details": [detail]}), None, None)) == seconds


@given(raw=st.binary(max_size=12))
def test_is_utf8(errors_on_bytes: Any, raw: bytes) -> None:
    escaped = "".join(f"%{byte:02X}" for byte in raw)
    try:
        raw.decode()
        valid = True
    except UnicodeDecodeError:
        valid = False
    assert errors_on_bytes.is_utf8(escaped) is valid
    assert errors_on_bytes.is_utf8(raw.replace(b"%", b"").decode("latin-1")) is valid or b"%" in raw


def test_the_tables_of_types_are_those_of_the_router() -> None:
    assert lua_tables() in EnvoyOptions().lua.read_text()
    assert lua_table() in EnvoyOptions().lua.read_text()


def test_errors_that_envoy_makes_itself_have_the_types_of_the_router() -> None:
    for there, kind in ANTHROPIC_ERRORS.values():
        assert type_of_status(there) == kind
    assert set(ERROR_TYPES) - {there for there, _ in ANTHROPIC_ERRORS.values()} == {400}


@given(message=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_error_becomes_anthropics(errors: Any, message: str) -> None:
    status = errors.status(json.dumps({"code": 14, "message": message}), None, None)
    there, text = errors.anthropic(503, errors.object(503, status), 'req "1"')
    assert there == STATUSES[Code.UNAVAILABLE]
    told = {"type": "overloaded_error", "message": message, "details": {"error_code": "unavailable"}}
    assert json.loads(text) == {"type": "error", "error": told, "request_id": 'req "1"'}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 429, 499, 500, 501, 504])
def test_each_status_has_the_type_that_the_router_gives_it(errors: Any, status: int) -> None:
    there, text = errors.anthropic(status, '{"error":{"message":"m","code":"c"}}', "r")
    assert (there, json.loads(text)["error"]["type"]) == (status, type_of_status(status))


def test_a_body_that_nobody_closes_is_given_back(errors: Any) -> None:
    runtime = luajit.LuaRuntime(encoding="utf-8")
    runtime.execute(EnvoyOptions().lua.read_text())
    bodies = runtime.globals().bodies
    kept, lost = bodies.open("a", 100, 60), bodies.open("a", 100, 60)
    assert kept.grow(20)
    assert lost.grow(40)
    assert not kept.grow(21)  # beyond what "a" may have
    assert not bodies.open("b", 100, 60).grow(41)  # beyond what there is
    assert (bodies.held, bodies.clients["a"]) == (60, 60)
    del lost
    assert kept.grow(60)
    kept.close()
    assert (bodies.held, bodies.clients["a"]) == (0, None)


@pytest.mark.parametrize(
    ("path", "escaped"),
    [
        ("/v2/models/a/b/infer", "/v2/models/a%2Fb/infer"),
        ("/v2/models/a/b/c/versions/1/infer", "/v2/models/a%2Fb%2Fc/versions/1/infer"),
        ("/v2/models/a/b", "/v2/models/a%2Fb"),
        ("/v2/models/a/b/versions/1", "/v2/models/a%2Fb/versions/1"),
        ("/v2/models/a/versions/1/ready", "/v2/models/a/versions/1/ready"),
        ("/v2/models/a/b/generate_stream", "/v2/models/a%2Fb/generate_stream"),
        ("/v2/models/a%2Fb/infer", "/v2/models/a%2Fb/infer"),
        ("/v2/models/stats", "/v2/models/stats"),
        ("/v2/repository/models/a/b/load", "/v2/repository/models/a%2Fb/load"),
        ("/v2/systemsharedmemory/region/a/b/register", "/v2/systemsharedmemory/region/a%2Fb/register"),
        ("/v2/health/ready", "/v2/health/ready"),
        ("/v1/models/a/b", "/v1/models/a/b"),
    ],
)
def test_slashes_in_names_are_escaped(errors: Any, path: str, escaped: str) -> None:
    assert errors.kserve_path(path) == escaped
