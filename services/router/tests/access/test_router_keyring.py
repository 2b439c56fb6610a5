"""Keys as callers present them: where they are found, which are accepted, and what the check costs."""

import timeit
from datetime import UTC, datetime

import pytest

from infermesh_router.access.credentials import read_secret
from infermesh_router.access.keyring import Keyring
from infermesh_router.testing.keys import key_of, secret_of
from infermesh_runtime.errors import Code, Unauthenticated

NOW_S = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ([("authorization", "Bearer k")], "k"),
        ([("authorization", "bearer  k ")], "k"),
        ([("x-api-key", "k")], "k"),
        ([("api-key", "k")], "k"),
        ([("api-key", "b"), ("x-api-key", "a"), ("authorization", "Bearer k")], "k"),
        ([("api-key", "b"), ("x-api-key", "a")], "a"),
        ([("authorization", "Basic dTpw"), ("x-api-key", "k")], "k"),
        ([("x-api-key", ""), ("api-key", "k")], "k"),
        ([("authorization", "Bearer "), ("user-agent", "x")], ""),
        ([("authorization", b"Bearer k")], ""),
        (None, ""),
    ],
)
def test_where_a_key_is_found(metadata: list[tuple[str, str | bytes]] | None, found: str) -> None:
    assert read_secret(metadata) == found


def refusal(keyring: Keyring, secret: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        keyring.verify(secret)
    assert caught.value.code is Code.UNAUTHENTICATED
    assert not secret or secret not in caught.value.message
    return caught.value.reason


def test_which_keys_are_accepted() -> None:
    keys = [
        key_of("good"),
        key_of("soon", expires=datetime.fromtimestamp(NOW_S + 1, UTC)),
        key_of("late", expires=datetime.fromtimestamp(NOW_S, UTC)),
        key_of("gone", revoked=datetime.fromtimestamp(NOW_S, UTC)),
    ]
    keyring = Keyring(keys, now_s=lambda: NOW_S)
    assert keyring.verify(secret_of("good")).name == "good"
    assert keyring.verify(secret_of("soon")).name == "soon"
    assert keyring.find(key_of("good").sha256).name == "good"
    for unknown in (key_of("late").sha256, key_of("gone").sha256, ""):
        with pytest.raises(Unauthenticated):
            keyring.find(unknown)
    assert refusal(keyring, secret_of("late")) == "API_KEY_EXPIRED"
    assert refusal(keyring, secret_of("gone")) == "API_KEY_REVOKED"
    assert refusal(keyring, secret_of("nobody")) == "INVALID_API_KEY"
    assert refusal(keyring, "\ud800") == "INVALID_API_KEY"
    assert refusal(keyring, "") == "MISSING_API_KEY"
    assert refusal(Keyring((), now_s=lambda: NOW_S), secret_of("good")) == "INVALID_API_KEY"


def test_the_check_takes_less_than_20_microseconds() -> None:
    keyring = Keyring([key_of(f"k{i}") for i in range(10_000)], now_s=lambda: NOW_S)
    metadata = [("user-agent", "x"), ("authorization", f"Bearer {secret_of('k77')}"), ("x-request-id", "y")]
    best_s = min(timeit.repeat(lambda: keyring.verify(read_secret(metadata)), number=1000, repeat=5)) / 1000
    assert best_s < 20e-6
