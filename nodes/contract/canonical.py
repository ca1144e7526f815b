"""Canonical JSON: the one byte form of every signed message.

RFC 8785 bytes over I-JSON values, without floats: fractions travel as fixed-point
integers, arrays as dtype + shape + bytes in an attachment. Reading is strict: duplicate
keys, floats, numbers beyond 2**53 - 1, ``NaN`` and any byte that the canonical form would
not have are refused, so two different byte strings never mean the same message.
"""

import json
from collections.abc import Iterable
from typing import NoReturn, TypeAlias, cast

import rfc8785

from nodes.contract.errors import MalformedError, TooLargeError
from nodes.contract.parameters import LIMITS

JsonValue: TypeAlias = "bool | int | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

_INTEGER_MAX = 2**53 - 1


def dumps(value: JsonValue) -> bytes:
    """Return the canonical bytes of ``value``.

    Raises:
        MalformedError: the value holds a float, an integer beyond ±(2**53 - 1), a key that
            is not text, or a type JSON does not have.

    Source:
        RFC 8785 (JSON Canonicalization Scheme), RFC 7493 (I-JSON).
    """
    try:
        _refuse_floats(value)
        return bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise MalformedError("expected a JSON value without floats and with integers within ±(2**53 - 1)") from error


def loads(data: bytes, *, size_max: int = LIMITS.header_bytes_max) -> JsonObject:
    """Parse canonical bytes into a JSON object.

    Args:
        data: the bytes as received.
        size_max: largest accepted length in bytes.

    Raises:
        TooLargeError: ``data`` is longer than ``size_max``.
        MalformedError: not an object, not canonical, duplicate keys, floats or huge numbers.
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
        again = rfc8785.dumps(value)
    except MalformedError:
        raise
    except (ValueError, RecursionError, rfc8785.CanonicalizationError) as error:
        raise MalformedError("expected canonical JSON (RFC 8785), got bytes that do not parse") from error
    if again != data:
        raise MalformedError("expected canonical JSON (RFC 8785), got another spelling of the same value")
    if not isinstance(value, dict):
        raise MalformedError(f"expected a JSON object, got {type(value).__name__}")
    return cast(JsonObject, value)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise MalformedError("expected no float in a signed message; use a fixed-point integer")
    children: Iterable[object] = ()
    if isinstance(value, dict):
        children = value.values()
    elif isinstance(value, list | tuple):
        children = value
    for child in children:
        _refuse_floats(child)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("expected each key once, got a duplicate key")
    return result


def _no_float(_text: str) -> NoReturn:
    raise MalformedError("expected no float, NaN or Infinity in a signed message")


def _bounded_integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > _INTEGER_MAX:
        raise MalformedError("expected integers within ±(2**53 - 1)")
    return int(text)
