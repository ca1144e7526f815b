"""Canonical JSON of signed documents: RFC 8785 bytes over I-JSON, without floats.

Reading is strict: a byte that the canonical form would not have, a duplicate key, a float or a
number beyond 2**53 - 1 is refused before anything is believed. Deep nesting ends in the
interpreter's recursion limit, which is a refusal too.
"""

import json
from typing import Any, NoReturn, cast

import rfc8785

from products.errors import MalformedError, TooLargeError

_INTEGER_MAX = 2**53 - 1


def dumps(value: object) -> bytes:
    """Return the canonical bytes of ``value``.

    Raises:
        MalformedError: the value holds a float or something JSON does not have.
    """
    try:
        _refuse_floats(value)
        return bytes(rfc8785.dumps(cast(Any, value)))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedError("expected a JSON value without floats and with integers within ±(2**53 - 1)") from error


def loads(data: bytes, *, size_max: int) -> dict[str, Any]:
    """Parse canonical bytes into a JSON object.

    Raises:
        TooLargeError: longer than ``size_max``.
        MalformedError: not an object, or not the canonical spelling of one.
    """
    value = parse(data, size_max=size_max)
    if dumps(value) != data:
        raise MalformedError("expected canonical JSON (RFC 8785), got another spelling of the same value")
    return value


def parse(data: bytes, *, size_max: int) -> dict[str, Any]:
    """Parse strict I-JSON in any spelling: no duplicate keys, floats or huge numbers.

    Raises:
        TooLargeError: longer than ``size_max``.
        MalformedError: not such JSON, or not an object.
    """
    if len(data) > size_max:
        raise TooLargeError(f"expected at most {size_max} bytes of JSON, got {len(data)}")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_bounded_integer,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError("expected JSON, got bytes that do not parse") from error
    if not isinstance(value, dict):
        raise MalformedError(f"expected a JSON object, got {type(value).__name__}")
    return value


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise MalformedError("expected no float in a signed document; use a fixed-point integer")
    if isinstance(value, dict):
        for child in value.values():
            _refuse_floats(child)
    elif isinstance(value, list | tuple):
        for child in value:
            _refuse_floats(child)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("expected each key once, got a duplicate key")
    return result


def _no_float(_text: str) -> NoReturn:
    raise MalformedError("expected no float, NaN or Infinity in a signed document")


def _bounded_integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > _INTEGER_MAX:
        raise MalformedError("expected integers within ±(2**53 - 1)")
    return int(text)
