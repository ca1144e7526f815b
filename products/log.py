"""The formats of a transparency log: leaves, Merkle proofs, checkpoints, cosignatures, policy.

Pure functions, used by the verifier here and by the log, witness and monitor of the factory.
A leaf holds digests, a signature and a public key, and nothing else: nothing personal can
ever have to be pruned from the log.

Source:
    RFC 9162 section 2.1 (Merkle trees); c2sp.org signed-note, tlog-checkpoint,
    tlog-cosignature (Ed25519), tlog-proof@v1, tlog-policy; the leaf is the ``hashedrekord``
    entry of Rekor v2 over the digest of the DSSE pre-authentication encoding.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from products import canonical
from products.errors import BadProofError, MalformedError, TooLargeError
from products.limits import LIMITS

HASH_SIZE = 32
PROOF_MAGIC = "c2sp.org/tlog-proof@v1"
_SIZE_MAX = 2**53 - 1
_DASH = "— "

SIGNATURE_TYPE = 0x01
"""Ed25519 signature of a log over its checkpoint (signed-note)."""
COSIGNATURE_TYPE = 0x04
"""Timestamped Ed25519 cosignature of a witness (tlog-cosignature)."""

EMPTY_ROOT = hashlib.sha256(b"").digest()


# --- leaves and Merkle proofs ---------------------------------------------------------------


def leaf_bytes(pae: bytes, signature: bytes, spki: bytes) -> bytes:
    """Return the entry of the log for one signed statement.

    Args:
        pae: DSSE pre-authentication encoding, the bytes that were signed.
        signature: DER-encoded ECDSA P-256 signature.
        spki: DER SubjectPublicKeyInfo of the signer.

    Privacy:
        The entry holds the digest of the signed bytes, not the bytes.
    """
    return canonical.dumps(
        {
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {
                "hashedRekordV002": {
                    "data": {"algorithm": "SHA2_256", "digest": _b64(hashlib.sha256(pae).digest())},
                    "signature": {
                        "content": _b64(signature),
                        "verifier": {
                            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                            "publicKey": {"rawBytes": _b64(spki)},
                        },
                    },
                }
            },
        }
    )


def leaf_hash(entry: bytes) -> bytes:
    """Return the Merkle leaf hash of ``entry``: SHA-256 over 0x00 and the entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the Merkle hash of an inner node: SHA-256 over 0x01, left and right."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def verify_inclusion(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Check that ``leaf`` is entry ``index`` of the tree of ``size`` entries with ``root``.

    Args:
        index: zero-based position.
        size: number of entries.
        leaf: Merkle leaf hash, 32 bytes.
        path: sibling hashes from the leaf up, 32 bytes each.
        root: Merkle root, 32 bytes.

    Raises:
        BadProofError: it is not, or the path has a wrong length.

    Source:
        RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size:
        raise BadProofError(f"expected an index below the tree size {size}, got {index}")
    fn, sn, digest = index, size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise BadProofError("expected a shorter inclusion path")
        if fn & 1 or fn == sn:
            digest = node_hash(sibling, digest)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            digest = node_hash(digest, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or digest != root:
        raise BadProofError("the inclusion path does not lead to the root of the checkpoint")


def verify_consistency(  # noqa: C901  the RFC's algorithm, step by step
    size1: int, root1: bytes, size2: int, root2: bytes, path: Sequence[bytes]
) -> None:
    """Check that the tree of ``size2`` entries only appends to the tree of ``size1``.

    Raises:
        BadProofError: it does not, it shrinks, or the path has a wrong length.

    Source:
        RFC 9162, section 2.1.4.2; from the empty tree and between equal trees the path is empty.
    """
    if size1 > size2:
        raise BadProofError(f"expected a tree of at least {size1} entries, got {size2}")
    if size1 in (0, size2):
        if path or (size1 == size2 and root1 != root2) or (size1 == 0 and root1 != EMPTY_ROOT):
            raise BadProofError("two trees of this size do not agree")
        return
    hashes = list(path) if size1 & (size1 - 1) else [root1, *path]
    if not hashes:
        raise BadProofError("expected a consistency path")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if sn == 0:
            raise BadProofError("expected a shorter consistency path")
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or old != root1 or new != root2:
        raise BadProofError("the consistency path does not join the two roots")


# --- keys and signed notes ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key of a log or witness, in the form of a signed note's verifier key.

    Attributes:
        name: key name; for a log its origin.
        kind: ``SIGNATURE_TYPE`` or ``COSIGNATURE_TYPE``.
        public: 32 bytes, Ed25519.
    """

    name: str
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        if self.kind not in (SIGNATURE_TYPE, COSIGNATURE_TYPE) or len(self.public) != 32:
            raise MalformedError("expected an Ed25519 key of a log (0x01) or a witness (0x04)")
        if not self.name or "+" in self.name or any(c.isspace() or ord(c) < 32 for c in self.name):
            raise MalformedError("expected a key name without spaces and plus signs")

    @property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, find the key of a signature line."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        """The text form ``name+id+key``."""
        return f"{self.name}+{self.key_id.hex()}+{_b64(bytes([self.kind]) + self.public)}"

    @classmethod
    def from_vkey(cls, text: str) -> "NoteKey":
        """Parse the text form.

        Raises:
            MalformedError: not such a key, or an id that is not the key's.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise MalformedError("expected a verifier key name+id+key")
        material = _unb64(parts[2])
        if len(material) != 33:
            raise MalformedError("expected 33 bytes of key material in a verifier key")
        key = cls(parts[0], material[0], material[1:])
        if key.key_id.hex() != parts[1]:
            raise MalformedError("expected the id of a verifier key to match its name and key")
        return key

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check an Ed25519 signature.

        Raises:
            BadProofError: it does not verify.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature as error:
            raise BadProofError(f"the signature of {self.name} does not verify") from error


def note_key(name: str, kind: int, private: Ed25519PrivateKey) -> NoteKey:
    """Return the public half of ``private`` under ``name``."""
    return NoteKey(name, kind, private.public_key().public_bytes_raw())


@dataclass(frozen=True, slots=True)
class NoteLine:
    """One signature line: key name, four bytes of key id, signature."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def text(self) -> str:
        """The line with its newline."""
        return f"{_DASH}{self.name} {_b64(self.key_id + self.signature)}\n"

    @classmethod
    def from_text(cls, text: str) -> "NoteLine":
        """Parse a line without its newline.

        Raises:
            MalformedError: not a signature line.
        """
        parts = text.removeprefix(_DASH).split(" ")
        if not text.startswith(_DASH) or len(parts) != 2 or not parts[0] or "+" in parts[0]:
            raise MalformedError("expected a signature line: em dash, key name, signature")
        raw = _unb64(parts[1])
        if len(raw) < 5:
            raise MalformedError("expected a key id and a signature in a signature line")
        return cls(parts[0], raw[:4], raw[4:])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The signed head of a tree.

    Attributes:
        origin: identity of the log.
        size: number of entries.
        root: Merkle root, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> bytes:
        """The note text that log and witnesses sign."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n".encode()

    @classmethod
    def from_body(cls, body: bytes) -> "Checkpoint":
        """Parse a note text of exactly three lines; extension lines are refused.

        Raises:
            MalformedError: another form.
        """
        lines = _text(body).split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise MalformedError("expected a checkpoint of origin, size and root")
        root = _unb64(lines[2])
        if len(root) != HASH_SIZE:
            raise MalformedError("expected a root of 32 bytes")
        return cls(lines[0], _decimal(lines[1]), root)


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signature lines, not yet believed."""

    checkpoint: Checkpoint
    lines: tuple[NoteLine, ...]

    def to_bytes(self) -> bytes:
        """Return the signed note."""
        return self.checkpoint.body + b"\n" + "".join(line.text for line in self.lines).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "SignedCheckpoint":
        """Parse a signed note, in its one spelling.

        Raises:
            MalformedError: not a signed checkpoint.
            TooLargeError: too many bytes or lines.
        """
        if len(data) > LIMITS.proof_bytes_max:
            raise TooLargeError(f"expected at most {LIMITS.proof_bytes_max} bytes of checkpoint")
        body, blank, tail = data.rpartition(b"\n\n")
        if not blank:
            raise MalformedError("expected a checkpoint, an empty line and signature lines")
        lines = _text(tail).split("\n")
        if lines[-1] or len(lines) < 2:
            raise MalformedError("expected signature lines that end in a newline")
        if len(lines) - 1 > LIMITS.note_signatures_max:
            raise TooLargeError(f"expected at most {LIMITS.note_signatures_max} signature lines")
        note = cls(Checkpoint.from_body(body + b"\n"), tuple(NoteLine.from_text(line) for line in lines[:-1]))
        if note.to_bytes() != data:
            raise MalformedError("expected the canonical spelling of a signed checkpoint")
        return note


def sign_checkpoint(checkpoint: Checkpoint, private: Ed25519PrivateKey) -> NoteLine:
    """Return the log's signature line; its key name is the origin."""
    key = note_key(checkpoint.origin, SIGNATURE_TYPE, private)
    return NoteLine(key.name, key.key_id, private.sign(checkpoint.body))


def cosign_checkpoint(checkpoint: Checkpoint, name: str, private: Ed25519PrivateKey, *, time_s: int) -> NoteLine:
    """Return a witness's timestamped signature line.

    Args:
        checkpoint: what the witness found consistent.
        name: key name of the witness.
        private: its key.
        time_s: seconds since 1970-01-01 UTC.
    """
    key = note_key(name, COSIGNATURE_TYPE, private)
    signature = private.sign(_cosigned(checkpoint, time_s))
    return NoteLine(name, key.key_id, time_s.to_bytes(8, "big") + signature)


def verify_cosignature(checkpoint: Checkpoint, line: NoteLine, key: NoteKey) -> int:
    """Check a witness's line and return its time in seconds since 1970-01-01 UTC.

    Raises:
        BadProofError: another key, a wrong length or a signature that does not verify.
    """
    if (line.name, line.key_id) != (key.name, key.key_id) or len(line.signature) != 72:
        raise BadProofError(f"expected a cosignature of {key.name}")
    time_s = int.from_bytes(line.signature[:8], "big")
    if time_s > _SIZE_MAX:
        raise BadProofError(f"expected a time in the cosignature of {key.name}")
    key.verify(line.signature[8:], _cosigned(checkpoint, time_s))
    return time_s


def _cosigned(checkpoint: Checkpoint, time_s: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time_s + checkpoint.body


# --- policy ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """At least ``threshold`` of ``members`` (names of witnesses and groups)."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TlogPolicy:
    """Which logs and witnesses count, and which of them together (c2sp.org/tlog-policy).

    Attributes:
        logs: keys of the accepted logs; a log's key name is its origin.
        witnesses: keys by the name of the policy.
        groups: groups by name.
        quorum: name of a witness or group, never ``none``.
    """

    logs: tuple[NoteKey, ...]
    witnesses: Mapping[str, NoteKey]
    groups: Mapping[str, Group]
    quorum: str

    @classmethod
    def from_bytes(cls, data: bytes) -> "TlogPolicy":
        """Parse the policy file.

        Raises:
            MalformedError: a line that is none of the format's, a name used before it is
                defined or twice, a key twice, or no quorum of witnesses.
        """
        reading = _PolicyReading()
        for number, line in enumerate(_text(data, extra="\t").split("\n"), start=1):
            words = line.split()
            if words and not words[0].startswith("#"):
                reading.line(number, words)
        if not reading.logs or reading.quorum is None or reading.quorum == "none":
            raise MalformedError("expected a log and a quorum of witnesses in the log policy")
        publics = [key.public for key in (*reading.logs, *reading.witnesses.values())]
        if len(set(publics)) != len(publics):
            raise MalformedError("expected each key once in the log policy")
        return cls(tuple(reading.logs), reading.witnesses, reading.groups, reading.quorum)

    def is_quorum(self, witnesses: set[str]) -> bool:
        """Whether these witnesses (names of the policy) make the quorum."""
        reached = set(witnesses)
        for name, group in self.groups.items():  # in order of definition: members come first
            if sum(member in reached for member in group.members) >= group.threshold:
                reached.add(name)
        return self.quorum in reached


@dataclass
class _PolicyReading:
    logs: list[NoteKey] = field(default_factory=list)
    witnesses: dict[str, NoteKey] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)
    quorum: str | None = None

    def line(self, number: int, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self.logs.append(_key_of(vkey, SIGNATURE_TYPE, number))
            case ["witness", name, vkey] | ["witness", name, vkey, _]:
                self._new(name, number)
                self.witnesses[name] = _key_of(vkey, COSIGNATURE_TYPE, number)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members, number)
            case ["quorum", name] if self.quorum is None and (name == "none" or self._knows(name)):
                self.quorum = name
            case _:
                raise MalformedError(f"log policy, line {number}: expected log, witness, group or one known quorum")
        if len(self.logs) + len(self.witnesses) + len(self.groups) > 96:
            raise TooLargeError("expected at most 96 logs, witnesses and groups in the log policy")

    def _group(self, name: str, threshold: str, members: list[str], number: int) -> None:
        self._new(name, number)
        k = {"all": len(members), "any": 1}.get(threshold) or _decimal(threshold)
        fresh = all(self._knows(member) and member not in self.grouped for member in members)
        if not 1 <= k <= len(members) or not fresh or len(set(members)) != len(members):
            raise MalformedError(f"log policy, line {number}: expected a threshold and members, each once and known")
        self.grouped.update(members)
        self.groups[name] = Group(k, tuple(members))

    def _knows(self, name: str) -> bool:
        return name in self.witnesses or name in self.groups

    def _new(self, name: str, number: int) -> None:
        if self._knows(name) or name == "none":
            raise MalformedError(f"log policy, line {number}: expected a new name")


def _key_of(vkey: str, kind: int, number: int) -> NoteKey:
    key = NoteKey.from_vkey(vkey)
    if key.kind != kind:
        raise MalformedError(f"log policy, line {number}: expected a key of type {kind:#04x}")
    return key


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A checkpoint that a known log signed and a quorum cosigned.

    Attributes:
        checkpoint: the tree head.
        at: earliest time by which a quorum had cosigned it.
        first_at: earliest of all its cosignatures.
        witnesses: who cosigned, by name of the policy.
    """

    checkpoint: Checkpoint
    at: datetime
    first_at: datetime
    witnesses: tuple[str, ...]


def verify_checkpoint(note: SignedCheckpoint, policy: TlogPolicy) -> Witnessed:
    """Believe a checkpoint: log signature, cosignatures, quorum.

    Every line has to be of a key that the policy knows, once, and has to verify: a package
    carries no line that nobody checks.

    Raises:
        BadProofError: it does not hold.
    """
    checkpoint = note.checkpoint
    logs = {(key.name, key.key_id): key for key in policy.logs if key.name == checkpoint.origin}
    witnesses = {(key.name, key.key_id): (name, key) for name, key in policy.witnesses.items()}
    signed, times = False, dict[str, int]()
    for line in note.lines:
        ident = (line.name, line.key_id)
        if ident in logs and not signed:
            logs[ident].verify(line.signature, checkpoint.body)
            signed = True
        elif ident in witnesses and witnesses[ident][0] not in times:
            name, key = witnesses[ident]
            times[name] = verify_cosignature(checkpoint, line, key)
        else:
            raise BadProofError("the checkpoint has a line of an unknown key, or two of the same")
    if not signed:
        raise BadProofError(f"expected a signature of a known log with the origin {checkpoint.origin[:80]}")
    order = sorted(times, key=lambda name: times[name])
    for count, name in enumerate(order, start=1):
        if policy.is_quorum(set(order[:count])):
            return Witnessed(checkpoint, _moment(times[name]), _moment(times[order[0]]), tuple(order))
    raise BadProofError(f"expected cosignatures of a quorum, got {len(order)} of witnesses {', '.join(order) or '-'}")


def _moment(time_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(time_s, UTC)
    except (OverflowError, ValueError, OSError) as error:
        raise BadProofError("expected a time of this era in a cosignature") from error


# --- proofs ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LogProof:
    """A tlog-proof: where an entry stands, its inclusion path, and the checkpoint.

    Attributes:
        index: zero-based position in the log.
        path: sibling hashes from the leaf up.
        note: the signed checkpoint.
    """

    index: int
    path: tuple[bytes, ...]
    note: SignedCheckpoint

    def to_bytes(self) -> bytes:
        """Return the text form; no ``extra`` line is ever written."""
        head = [PROOF_MAGIC, f"index {self.index}", *map(_b64, self.path), ""]
        return "\n".join(head).encode() + b"\n" + self.note.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "LogProof":
        """Parse the text form in its one spelling; an ``extra`` line is refused.

        Raises:
            MalformedError: not such a proof.
            TooLargeError: too many bytes.
        """
        if len(data) > LIMITS.proof_bytes_max:
            raise TooLargeError(f"expected at most {LIMITS.proof_bytes_max} bytes of log proof, got {len(data)}")
        head, blank, note = data.partition(b"\n\n")
        lines = _text(head).split("\n")
        if not blank or len(lines) < 2 or lines[0] != PROOF_MAGIC or not lines[1].startswith("index "):
            raise MalformedError(f"expected a log proof that starts with {PROOF_MAGIC} and an index")
        path = tuple(_unb64(line) for line in lines[2:])
        if len(path) > 64 or any(len(item) != HASH_SIZE for item in path):
            raise MalformedError("expected at most 64 hashes of 32 bytes in a log proof")
        proof = cls(_decimal(lines[1].removeprefix("index ")), path, SignedCheckpoint.from_bytes(note))
        if proof.to_bytes() != data:
            raise MalformedError("expected the canonical spelling of a log proof")
        return proof

    def verify(self, entry: bytes) -> None:
        """Check that ``entry`` is in the tree of the checkpoint, which is believed elsewhere.

        Raises:
            BadProofError: it is not.
        """
        checkpoint = self.note.checkpoint
        verify_inclusion(self.index, checkpoint.size, leaf_hash(entry), self.path, checkpoint.root)


# --- text -----------------------------------------------------------------------------------


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("expected standard base64") from error
    if _b64(data) != text:
        raise MalformedError("expected canonical base64 with padding")
    return data


def _decimal(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or (text[0] == "0" and text != "0"):
        raise MalformedError("expected a decimal number without leading zeroes")
    return int(text)


def _text(data: bytes, *, extra: Literal["", "\t"] = "") -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("expected UTF-8 text") from error
    if any(ord(c) < 32 and c != "\n" and c not in extra for c in text):
        raise MalformedError("expected text without control characters")
    return text
