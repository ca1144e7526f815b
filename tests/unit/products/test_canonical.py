"""Strict JSON: one spelling, no surprises."""

import pytest

from products import canonical
from products.errors import MalformedError, TooLargeError


@pytest.mark.parametrize(
    "data",
    [b'{"a":1,"a":1}', b'{"a":1.0}', b'{"a":NaN}', b'{"a":9007199254740992}', b'{"a": 1}', b'{"b":1,"a":1}', b"[]", b"1", b"",
     b'{"a":"\\u0061"}', b"\xef\xbb\xbf{}", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":' * 100_000, b'{"a":1e400}', b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_anything_but_the_canonical_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        canonical.loads(data, size_max=10**6)


def test_too_many_bytes_are_refused_before_parsing() -> None:
    with pytest.raises(TooLargeError):
        canonical.loads(b'{"a":1}', size_max=6)


def test_canonical_bytes_are_read_back() -> None:
    data = canonical.dumps({"b": [1, "数"], "a": None})
    assert data == '{"a":null,"b":[1,"数"]}'.encode()
    assert canonical.loads(data, size_max=100) == {"a": None, "b": [1, "数"]}
