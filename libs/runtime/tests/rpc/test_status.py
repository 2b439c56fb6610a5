"""Errors to google.rpc.Status and back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from infermesh_runtime import errors
from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.rpc import status

texts = st.text(max_size=60)
codes = st.sampled_from([c for c in Code if c is not Code.OK])


def rpc_error(code: grpc.StatusCode, trailing: tuple[tuple[str, str | bytes], ...], message: str = "m") -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), message)


def over_the_wire(error: InfermeshError) -> InfermeshError:
    rich = status.to_status(error)
    return status.from_rpc_error(
        rpc_error(status.to_grpc_code(error.code), status.to_trailing_metadata(error, rich), rich.message)
    )


@given(
    head=st.tuples(codes, texts, st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True)),
    metadata=st.dictionaries(texts, texts, max_size=3),
    fields=st.dictionaries(texts, texts, max_size=3),
    retry_ms=st.none() | st.integers(0, 10**7),
)
def test_nothing_is_lost_on_the_way(
    head: tuple[Code, str, str], metadata: dict[str, str], fields: dict[str, str], retry_ms: int | None
) -> None:
    code, message, reason = head
    retry_after_s = None if retry_ms is None else retry_ms / 1000
    sent = errors.from_code(code, message, reason=reason, metadata=metadata, fields=fields, retry_after_s=retry_after_s)
    got = over_the_wire(sent)
    assert type(got) is type(sent)
    assert (got.code, got.message, got.reason) == (code, message, reason)
    assert (got.metadata, got.fields, got.retry_after_s) == (metadata, fields, retry_after_s)


@given(
    message=st.text(max_size=5000),
    metadata=st.dictionaries(texts, st.text(max_size=1000), max_size=30),
    fields=st.dictionaries(st.text(max_size=400), st.text(max_size=1000), max_size=30),
)
def test_the_trailers_always_fit_the_metadata_limit(
    message: str, metadata: dict[str, str], fields: dict[str, str]
) -> None:
    error = errors.InvalidArgument("x" * 900 + message, metadata=metadata, fields=fields, retry_after_s=1)
    rich = status.to_status(error)
    assert rich.ByteSize() <= status.MAX_DETAILS_BYTES
    assert 3 * len(rich.message.encode()) + rich.ByteSize() * 4 / 3 <= 8000


def test_lone_surrogates_can_be_sent() -> None:
    assert over_the_wire(errors.InvalidArgument("a\udc80b", fields={"\ud800": "x"})).message == "a?b"


@pytest.mark.parametrize(("seconds", "expected"), [(0, "1"), (0.2, "1"), (1, "1"), (1.01, "2"), (30, "30")])
def test_retry_after_is_whole_seconds_at_least_one(seconds: float, expected: str) -> None:
    error = errors.Unavailable("busy", retry_after_s=seconds)
    trailing = dict(status.to_trailing_metadata(error, status.to_status(error)))
    assert trailing["retry-after"] == expected


def test_a_status_without_details_keeps_code_and_message() -> None:
    got = status.from_rpc_error(rpc_error(grpc.StatusCode.NOT_FOUND, (), "gone"))
    assert (type(got), got.message, got.reason) == (errors.NotFound, "gone", "NOT_FOUND")


def test_an_error_without_a_word_has_a_message_all_the_same() -> None:
    got = status.from_rpc_error(rpc_error(grpc.StatusCode.UNIMPLEMENTED, (), ""))
    assert "UNIMPLEMENTED" in got.message


def test_unreadable_or_contradicting_details_are_left_out() -> None:
    garbage = rpc_error(grpc.StatusCode.NOT_FOUND, ((status.DETAILS_KEY, b"\xff\xff\xff"),))
    contradiction = status_pb2.Status(code=3, message="other").SerializeToString()
    lie = rpc_error(grpc.StatusCode.NOT_FOUND, ((status.DETAILS_KEY, contradiction),))
    assert type(status.from_rpc_error(garbage)) is type(status.from_rpc_error(lie)) is errors.NotFound


def test_foreign_details_are_skipped() -> None:
    rich = status.to_status(errors.ModelNotFound("no such model"))
    rich.details.add().Pack(error_details_pb2.DebugInfo(detail="x"))
    assert type(status.from_status(rich)) is errors.ModelNotFound


def test_a_bare_rpc_error_is_unknown() -> None:
    assert status.from_rpc_error(grpc.RpcError("odd")).code is Code.UNKNOWN
