"""Canonical bytes, signatures, seals, parcels and frames refuse what is not exactly theirs."""

import struct
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from nodes.contract import canonical, wire
from nodes.contract.errors import (
    BadSealError,
    BadSignatureError,
    MalformedError,
    TooLargeError,
    UnsupportedVersionError,
)
from nodes.contract.frames import Frame, pack_frames, unpack_frames
from nodes.contract.messages import Order, Query, decode, encode, parse
from nodes.contract.parameters import LIMITS
from nodes.contract.sealing import SealHeader, seal, unseal
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sign

KEY = SigningKey(ec.generate_private_key(ec.SECP256R1()))
OTHER = SigningKey(ec.generate_private_key(ec.SECP256R1()))
NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdéß中", max_size=6), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":9007199254740993}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{ "a":1}',
        b'{"b":1,"a":2}',
        b'{"a":"\\u0061"}',
        b'{"a":1}\n',
        b"[1]",
        b"\xff\xfe",
        b"",
        b"[" * 100_000,
    ],
)
def test_json_that_is_not_the_one_canonical_form_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        canonical.loads(data)


def test_a_float_cannot_be_signed() -> None:
    with pytest.raises(MalformedError, match="float"):
        canonical.dumps({"a": [1, {"b": 0.5}]})


def test_json_over_the_size_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(TooLargeError):
        canonical.loads(b'{"a":"' + b"x" * 100 + b'"}', size_max=50)


@given(st.dictionaries(st.text("abcdé中", max_size=6), json_values, max_size=5))
def test_what_is_written_reads_back_as_the_same_value(value: dict) -> None:
    assert canonical.loads(canonical.dumps(value)) == value


def test_a_signature_of_another_key_or_for_another_type_is_refused() -> None:
    envelope = sign(KEY, "application/vnd.shufang.order.v1+json", b"{}")
    with pytest.raises(BadSignatureError):
        envelope.open(OTHER.public, "application/vnd.shufang.order.v1+json")
    with pytest.raises(BadSignatureError, match="payload type"):
        envelope.open(KEY.public, "application/vnd.shufang.step.v1+json")
    relabelled = Envelope("application/vnd.shufang.step.v1+json", envelope.payload, envelope.keyid, envelope.signature)
    with pytest.raises(BadSignatureError):
        relabelled.open(KEY.public, "application/vnd.shufang.step.v1+json")


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_an_envelope_can_change_unseen(position: int, mask: int) -> None:
    data = bytearray(sign(KEY, "t", b'{"n":1}').to_bytes())
    data[position % len(data)] ^= mask
    with pytest.raises((MalformedError, BadSignatureError)):
        Envelope.from_bytes(bytes(data)).open(KEY.public, "t")


def test_two_signatures_in_one_envelope_are_refused() -> None:
    value = canonical.loads(sign(KEY, "t", b"{}").to_bytes())
    value["signatures"] = value["signatures"] * 2  # type: ignore[operator]
    with pytest.raises(MalformedError, match="exactly one"):
        Envelope.from_bytes(canonical.dumps(value))


def test_a_key_on_another_curve_is_refused() -> None:
    from cryptography.hazmat.primitives import serialization

    spki = (
        ec.generate_private_key(ec.SECP384R1())
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(MalformedError, match="P-256"):
        VerifyKey(spki)


def test_the_repr_of_a_private_key_shows_its_id_alone() -> None:
    assert repr(KEY) == f"SigningKey({KEY.public.keyid[:12]})"


HEADER = SealHeader("s-1", "node-a", "node-b", "secagg.shares", 0)


@pytest.mark.parametrize(
    "other",
    [
        SealHeader("s-2", "node-a", "node-b", "secagg.shares", 0),
        SealHeader("s-1", "node-c", "node-b", "secagg.shares", 0),
        SealHeader("s-1", "node-a", "node-c", "secagg.shares", 0),
        SealHeader("s-1", "node-a", "node-b", "secagg.keys", 0),
        SealHeader("s-1", "node-a", "node-b", "secagg.shares", 1),
    ],
)
def test_a_sealed_message_moved_elsewhere_does_not_open(other: SealHeader) -> None:
    key = X25519PrivateKey.generate()
    sealed = seal(b"share", key.public_key().public_bytes_raw(), HEADER)
    assert unseal(sealed, key, HEADER) == b"share"
    with pytest.raises(BadSealError):
        unseal(sealed, key, other)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), bytes(31), b""])
def test_nothing_is_sealed_for_a_key_with_which_no_secret_is_agreed(key: bytes) -> None:
    with pytest.raises(MalformedError):
        seal(b"share", key, HEADER)


def test_a_sealed_message_whose_encapsulated_key_is_of_low_order_does_not_open() -> None:
    key = X25519PrivateKey.generate()
    sealed = seal(b"share", key.public_key().public_bytes_raw(), HEADER)
    with pytest.raises(BadSealError):
        unseal(bytes(32) + sealed[32:], key, HEADER)


def test_a_sealed_message_does_not_open_with_another_key_or_altered() -> None:
    key = X25519PrivateKey.generate()
    sealed = seal(b"share", key.public_key().public_bytes_raw(), HEADER)
    for bad, opener in (
        (sealed, X25519PrivateKey.generate()),
        (sealed[:-1], key),
        (b"", key),
        (sealed[:40] + b"\0" + sealed[41:], key),
    ):
        with pytest.raises(BadSealError):
            unseal(bad, opener, HEADER)


def query(**changes: object) -> Query:
    fields: dict = {
        "query_id": "q-1",
        "kind": "node.describe",
        "sender": "operator",
        "recipient": "node-a",
        "body": {},
        "issued_at": NOW,
        "expires_at": NOW,
    }
    return Query(**{**fields, **changes})


def test_swapped_dropped_or_altered_attachments_are_refused() -> None:
    parts = (b"first", b"second")
    message = query(attachments_sha256=wire.digests(parts))
    envelope, got = wire.unpack(encode(message, KEY, parts))
    assert decode(Query, envelope, got, KEY.public) == message
    for bad in ((b"second", b"first"), (b"first",), (b"first", b"secone"), (b"first", b"second", b"")):
        with pytest.raises(MalformedError):
            decode(Query, envelope, bad, KEY.public)


PARCEL = encode(query(attachments_sha256=wire.digests((b"abc",))), KEY, (b"abc",))
"""Made once: the length of a signature differs from one to the next."""


@given(st.integers(0, len(PARCEL) - 1))
def test_a_truncated_or_lengthened_parcel_is_refused(cut: int) -> None:
    parcel = PARCEL
    with pytest.raises((MalformedError, TooLargeError)):
        wire.unpack(parcel[:cut])
    with pytest.raises(MalformedError):
        wire.unpack(parcel + b"\0")


def test_a_parcel_that_claims_too_many_parts_is_refused_without_reading_them() -> None:
    with pytest.raises(TooLargeError):
        wire.unpack(b"SFP1" + struct.pack(">I", LIMITS.parts_max + 1))


def test_another_version_is_refused_as_such() -> None:
    payload = query().to_payload().replace(b'"version":1', b'"version":2')
    with pytest.raises(UnsupportedVersionError):
        parse(Query, payload)


def test_an_unknown_field_is_refused_by_name() -> None:
    value = canonical.loads(query().to_payload())
    value["extra"] = 1
    with pytest.raises(MalformedError, match="extra"):
        parse(Query, canonical.dumps(value))


def test_an_order_cannot_be_read_as_a_query() -> None:
    with pytest.raises(MalformedError):
        parse(Order, query().to_payload())


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        query(issued_at=datetime(2026, 1, 31, 8, 0))


frames = st.lists(
    st.builds(
        Frame,
        st.just("s-1"),
        st.sampled_from(["node-a", "node-b"]),
        st.sampled_from(["c1", "c2"]),
        st.integers(1, 2**40),
        st.binary(max_size=50),
    ),
    max_size=4,
)


@given(frames)
def test_frames_read_back_as_they_were(items: list[Frame]) -> None:
    assert unpack_frames(pack_frames(items)) == items


@given(frames, st.data())
def test_truncated_frames_are_refused(items: list[Frame], data: st.DataObject) -> None:
    packed = pack_frames(items)
    cut = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises((MalformedError, TooLargeError)):
        unpack_frames(packed[:cut])
