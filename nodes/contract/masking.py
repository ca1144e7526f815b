"""What both halves of secure aggregation agree on: who said what, and how a mask is made.

A *sum* is one opened total over several nodes. Each sum of a session has a number of its
own, keys of its own and seeds of its own, so whatever is revealed to open one sum tells
nothing about another (``nodes.privacy.secagg`` gives the argument). A mask is a ChaCha20
stream whose key is derived with the whole context of the sum: session, number, active
nodes, digest of what was asked (which fixes the length). Nodes that were told different things derive
different masks, which then do not cancel.

Privacy: nothing in here holds a value of a row. A masked vector is uniform modulo 2**64
to whoever lacks one of its masks.

Source:
    Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine
    Learning", CCS 2017, figure 4; binding the question to the masks against differing
    questions: Pasquini et al., "Eluding Secure Aggregation in Federated Learning via
    Model Inconsistency", CCS 2022, section 7.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from pydantic import Field, model_validator

from nodes.contract import canonical
from nodes.contract.errors import MalformedError
from nodes.contract.messages import Hex32, Message, Name, parse
from nodes.contract.parameters import SECAGG
from nodes.contract.signing import Envelope, VerifyKey, sha256_hex

RingVector = NDArray[np.uint64]
"""Shape ``(length,)``, dtype uint64, arithmetic modulo 2**64."""

SEED_BYTES = 16
"""Length of a self-mask seed: one Shamir secret over GF(2**128)."""

KEY_BYTES = 32
"""Length of an X25519 private key: two Shamir secrets over GF(2**128)."""

_WORD = np.dtype("<u8")

_PRIME = 2**255 - 19
_LOW_ORDER = frozenset(
    {
        0,
        1,
        _PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)
"""X25519 coordinates whose product with any key is zero (RFC 7748, section 7; cr.yp.to/ecdh.html#validate)."""


class Advertisement(Message):
    """A node's fresh public keys of one session, signed with its statement key.

    Attributes:
        session_id, node: where it belongs.
        parameter_set: name of the set of ``nodes.contract.parameters``.
        threshold: how many shares rebuild a secret of this session.
        public_keys: X25519 public key per sum, hex of 32 bytes.
        seed_sha256: per sum, digest of the self-mask seed; a rebuilt seed is checked against it.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.secagg-keys.v1+json"

    version: Literal[1] = 1
    session_id: Name
    node: Name
    parameter_set: Name
    threshold: Annotated[int, Field(ge=2, le=SECAGG.parties_max)]
    public_keys: Annotated[tuple[Hex32, ...], Field(min_length=1, max_length=SECAGG.rounds_max, strict=False)]
    seed_sha256: Annotated[tuple[Hex32, ...], Field(min_length=1, max_length=SECAGG.rounds_max, strict=False)]

    @model_validator(mode="after")
    def _consistent(self) -> "Advertisement":
        if len(self.public_keys) != len(self.seed_sha256) or len(set(self.public_keys)) != len(self.public_keys):
            raise ValueError("one key and one seed per sum, each key once")
        numbers = [int.from_bytes(bytes.fromhex(key), "little") for key in self.public_keys]
        if any(number >= _PRIME or number in _LOW_ORDER for number in numbers):
            raise ValueError("canonical X25519 keys, none of low order")
        return self


class Confirmation(Message):
    """A node's word on which masked vectors one sum shall cover, signed before anything is revealed.

    Attributes:
        session_id, node: where it belongs.
        roster_sha256: digest of everybody's advertisement, see ``roster_sha256``.
        sum_number: which sum.
        active: nodes between which pairwise masks were added.
        input_sha256: digest of what the nodes were asked.
        survivors: nodes whose vectors are added, sorted.
        masked_sha256: digest of each survivor's masked vector, in that order.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.secagg-confirmation.v1+json"

    version: Literal[1] = 1
    session_id: Name
    node: Name
    roster_sha256: Hex32
    sum_number: Annotated[int, Field(ge=0, lt=SECAGG.rounds_max)]
    active: Annotated[tuple[Name, ...], Field(min_length=2, strict=False)]
    input_sha256: Hex32
    survivors: Annotated[tuple[Name, ...], Field(min_length=2, strict=False)]
    masked_sha256: Annotated[tuple[Hex32, ...], Field(min_length=2, strict=False)]

    def is_same_sum(self, other: "Confirmation") -> bool:
        """Whether both nodes confirm the very same sum."""
        return self.model_copy(update={"node": other.node}) == other


S = TypeVar("S", Advertisement, Confirmation)


def open_signed(model: type[S], envelope: Envelope, key: VerifyKey) -> S:
    """Verify and read one of the messages of this module.

    Raises:
        BadSignatureError: not signed with ``key``.
        MalformedError: not such a message.
    """
    return parse(model, envelope.open(key, model.payload_type))


def roster_sha256(advertisements: Mapping[str, Envelope]) -> str:
    """Return the digest of who takes part with which keys: node ids with digests of their advertisements."""
    return sha256_hex(canonical.dumps({node: advertisements[node].payload_sha256 for node in sorted(advertisements)}))


def threshold(parties: int, contributors_min: int) -> int:
    """Return how many shares rebuild a secret: more than two thirds, and never less than the grant's contributors.

    An operator that shows two groups of nodes two survivor lists needs a threshold of each
    group; nodes that collude with it stand in both. With ``k`` of ``n`` nodes colluding it
    cannot have both groups when ``2 * threshold > n + k``. More than two thirds holds that
    for every ``k`` up to a third. Three nodes are the exception: two thirds would be all of
    them, so a grant that wants that says ``contributors_min = 3``; otherwise two of three
    suffice, which holds against the operator alone (``k = 0``) and survives one drop-out.

    Source:
        Bonawitz et al., section 6 (theorem on active adversaries, and the table of thresholds: more than n/2 against
        the server alone, more than 2n/3 against the server with users).
    """
    return max(parties * 2 // 3 + 1 if parties > 3 else parties // 2 + 1, contributors_min)


def context(session_id: str, roster: str, sum_number: int, active: Sequence[str], input_sha256: str) -> bytes:
    """Return the bytes that bind a mask to one sum."""
    return canonical.dumps(
        {
            "active": list(active),
            "context": "shufang/v1/secagg",
            "input_sha256": input_sha256,
            "roster_sha256": roster,
            "session_id": session_id,
            "sum": sum_number,
        }
    )


def seed_digest(session_id: str, node: str, sum_number: int, seed: bytes) -> str:
    """Return the digest by which a node commits to a self-mask seed."""
    return sha256_hex(b"shufang/v1/secagg-seed\0" + f"{session_id}\0{node}\0{sum_number}\0".encode() + seed)


def self_mask(seed: bytes, node: str, sum_context: bytes, length: int) -> RingVector:
    """Return the mask that hides a node's vector until enough nodes agree on the survivors."""
    return _stream(seed, b"self\0" + node.encode() + b"\0" + sum_context, length)


def pair_mask(
    private: X25519PrivateKey, public_key: bytes, *, own: str, peer: str, sum_context: bytes, length: int
) -> RingVector:
    """Return what ``own`` adds for the pair (own, peer); the peer adds the negative of it.

    Args:
        private: own's key of this sum.
        public_key: the peer's 32 bytes of this sum.
        own: actor id of the caller; of two the smaller adds and the greater subtracts.
        peer: actor id of the other.
        sum_context: see ``context``.
        length: number of entries.

    Raises:
        MalformedError: the peer's key is of low order.
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise MalformedError(f"expected a usable X25519 key of {peer}") from error
    low, high = sorted((own, peer))
    stream = _stream(shared, b"pair\0" + low.encode() + b"\0" + high.encode() + b"\0" + sum_context, length)
    return stream if own == low else np.negative(stream)


def open_total(
    masked: Mapping[str, RingVector],
    seeds: Mapping[str, bytes],
    keys: Mapping[str, bytes],
    *,
    advertisements: Mapping[str, Advertisement],
    sum_number: int,
    sum_context: bytes,
) -> RingVector:
    """Add masked vectors and take all masks off, once enough shares rebuilt what that needs.

    Args:
        masked: vector per survivor, all of one length.
        seeds: rebuilt self-mask seed per survivor.
        keys: rebuilt private key of this sum per node that dropped in it.
        advertisements: of everybody; what was rebuilt is checked against them.
        sum_number: which sum.
        sum_context: see ``context``.

    Returns:
        The sum of the survivors' values, and of nothing else.

    Raises:
        MalformedError: a seed or key is missing or not the one its node advertised.
    """
    if set(seeds) != set(masked) or set(keys) & set(masked):
        raise MalformedError("expected a seed per survivor, and keys of dropped nodes alone")
    length = len(next(iter(masked.values())))
    total = np.zeros(length, dtype=np.uint64)
    for node, vector in masked.items():
        session_id = advertisements[node].session_id
        if seed_digest(session_id, node, sum_number, seeds[node]) != advertisements[node].seed_sha256[sum_number]:
            raise MalformedError(f"expected the seed that {node} committed to")
        total += vector
        total -= self_mask(seeds[node], node, sum_context, length)
    for lost, raw in keys.items():
        key = X25519PrivateKey.from_private_bytes(raw)
        if key.public_key().public_bytes_raw().hex() != advertisements[lost].public_keys[sum_number]:
            raise MalformedError(f"expected the key that {lost} advertised")
        for node in masked:
            # From the lost node's side the pairwise mask has the opposite sign, so adding it takes it off.
            public = bytes.fromhex(advertisements[node].public_keys[sum_number])
            total += pair_mask(key, public, own=lost, peer=node, sum_context=sum_context, length=length)
    return total


def to_ring(values: Sequence[int]) -> RingVector:
    """Return integers as elements modulo 2**64.

    Raises:
        ValueError: an entry beyond ±2**``SECAGG.value_bits``, so that a sum could wrap around.
    """
    limit = 2**SECAGG.value_bits
    if any(not -limit <= value <= limit for value in values):
        raise ValueError(f"expected entries within ±2**{SECAGG.value_bits}")
    return np.array([value % 2**64 for value in values], dtype=np.uint64)


def from_ring(total: RingVector) -> list[int]:
    """Return the signed integers of a sum that stayed within ±2**63."""
    return [int(value) for value in total.astype(np.uint64).view(np.int64)]


def to_bytes(vector: RingVector) -> bytes:
    """Return a ring vector as little-endian bytes, 8 per entry."""
    return vector.astype(_WORD).tobytes()


def from_bytes(data: bytes, length: int) -> RingVector:
    """Read what ``to_bytes`` wrote.

    Raises:
        MalformedError: another length.
    """
    if len(data) != 8 * length:
        raise MalformedError(f"expected {length} entries of 8 bytes, got {len(data)} bytes")
    return np.frombuffer(data, dtype=_WORD).astype(np.uint64)


def _stream(secret: bytes, info: bytes, length: int) -> RingVector:
    # The key is used for this one stream, so a fixed nonce and counter zero are right (RFC 8439, section 2.3).
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"shufang/v1/secagg-mask\0" + info).derive(secret)
    encryptor = Cipher(algorithms.ChaCha20(key, b"\0" * 16), mode=None).encryptor()
    return np.frombuffer(encryptor.update(b"\0" * (8 * length)), dtype=_WORD).astype(np.uint64)
