"""The monitor: reads a whole shard as a stranger would and raises alerts.

It trusts the log's key, the agency's list of actors and its own notes of the last visit. It
rebuilds every tile from the entries, checks every entry's signature (the leaf holds the digest
that was signed), and compares releases with the log: a statement that a release names has to
be logged too. A department or reviewer runs it to see that nobody signed in its name.

Privacy:
    Reads digests, signatures and public keys; statements only as far as they are published
    in packages.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from factory.log.errors import LogCorruptError
from factory.log.shard import envelope_leaf
from factory.log.tiles import TILE_HEIGHT, TILE_WIDTH, RightEdge, TileReader, bundle_path, tile_path
from nodes.contract.errors import ContractError
from nodes.contract.signing import Envelope, pae, sha256_hex
from nodes.contract.trust import Actors
from products import canonical
from products.errors import MalformedError, ProductError
from products.forms import RELEASE
from products.log import Checkpoint, NoteKey, SignedCheckpoint, TlogPolicy, leaf_hash, verify_checkpoint

ALERTS_MAX = 1_000
_DIGEST = Prehashed(hashes.SHA256())

AlertCode = Literal[
    "checkpoint_invalid",
    "checkpoint_not_witnessed",
    "tree_inconsistent",
    "tree_rolled_back",
    "entry_malformed",
    "entry_bad_signature",
    "actor_unknown",
    "entry_unclaimed",
    "statement_not_logged",
    "release_statement_missing",
]


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that must not be.

    Attributes:
        code: stable kind.
        index: entry it is about, if one.
        message: for people, English; no content of statements.
    """

    code: AlertCode
    index: int | None
    message: str


@dataclass(frozen=True, slots=True)
class LeafFacts:
    """What an entry says.

    Attributes:
        digest: SHA-256 of the signed bytes.
        signature: DER-encoded ECDSA signature.
        spki: DER public key.
    """

    digest: bytes
    signature: bytes
    spki: bytes


@dataclass
class Replay:
    """What one visit found.

    Attributes:
        note: the checkpoint of this visit; None where it is invalid.
        alerts: at most ``ALERTS_MAX``.
        entries_by_actor: number of entries by actor id.
        leaves: index by Merkle leaf hash.
        digests: SHA-256 of the signed bytes of every entry.
        signed_by: entries (index, digest of the signed bytes) by key id.
    """

    note: SignedCheckpoint | None = None
    alerts: list[Alert] = field(default_factory=list)
    entries_by_actor: Counter[str] = field(default_factory=Counter)
    leaves: dict[bytes, int] = field(default_factory=dict)
    digests: set[bytes] = field(default_factory=set)
    signed_by: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)

    def alert(self, code: AlertCode, message: str, index: int | None = None) -> None:
        """Add an alert, unless there are too many already."""
        if len(self.alerts) < ALERTS_MAX:
            self.alerts.append(Alert(code, index, message))


def replay(
    folder: Path,
    key: NoteKey,
    *,
    actors: Actors,
    policy: TlogPolicy | None = None,
    previous: Checkpoint | None = None,
) -> Replay:
    """Read a shard from its public folder and check all of it.

    Args:
        folder: the shard: ``checkpoint`` and ``tile/``.
        key: the log's key, from the agency's policy and not from the folder.
        actors: who may sign.
        policy: if given, the checkpoint has to be witnessed by its quorum.
        previous: tree head of the last visit.
    """
    found = Replay()
    head = _head(folder, key, policy, found)
    if head is None:
        return found
    if previous is not None and head.size < previous.size:
        found.alert("tree_rolled_back", f"the tree has {head.size} entries, at the last visit it had {previous.size}")
    known = {sha256_hex(actor.verify_key.spki): actor.id for actor in actors.actors}
    edge = RightEdge(0, [], [])
    reader = TileReader(folder, head.size)
    # The last batch of a visit is cut at the old size, where the old root has to appear.
    cuts = {previous.size} if previous is not None and previous.size <= head.size else set()
    try:
        for entries in _batches(reader, cuts):
            for entry in entries:
                _take(entry, len(found.leaves), known, found)
            edge, changed = edge.append(entries)
            _compare(folder, changed, head.size, found)
            if previous is not None and edge.size == previous.size and edge.root != previous.root:
                found.alert("tree_inconsistent", f"the first {previous.size} entries are not those of the last visit")
    except LogCorruptError as error:
        found.alert("tree_inconsistent", str(error))
        return found
    if previous is not None and previous.size == 0 and previous.root != RightEdge(0, [], []).root:
        found.alert("tree_inconsistent", "the empty tree of the last visit had a wrong root")
    if edge.root != head.root:
        found.alert(
            "tree_inconsistent", f"the entries do not lead to the root of the checkpoint of {head.size} entries"
        )
    return found


def check_packages(found: Replay, envelopes: Sequence[bytes], actors: Actors) -> None:
    """Compare published statements with the log; adds alerts.

    Args:
        found: a visit's result.
        envelopes: all DSSE envelopes of the packages.
        actors: who may sign.
    """
    spki_of = {sha256_hex(actor.verify_key.spki): actor.verify_key.spki for actor in actors.actors}
    logged_payloads: set[str] = set()
    releases: dict[str, list[tuple[str, str]]] = {}
    for data in envelopes:
        try:
            envelope = Envelope.from_bytes(data)
        except ContractError:
            found.alert("statement_not_logged", f"a file with the digest {sha256_hex(data)[:16]} is no envelope")
            continue
        short = envelope.payload_sha256[:16]
        spki = spki_of.get(envelope.keyid)
        if spki is None:
            found.alert("actor_unknown", f"statement {short} is signed by the unknown key {envelope.keyid[:16]}")
        elif leaf_hash(envelope_leaf(envelope, spki)) not in found.leaves:
            found.alert("statement_not_logged", f"statement {short} of key {envelope.keyid[:16]} is not in the log")
        else:
            logged_payloads.add(envelope.payload_sha256)
        releases.update(_release_of(envelope))
    for release, named in sorted(releases.items()):
        for name, digest in named:
            if digest not in logged_payloads:
                found.alert(
                    "release_statement_missing",
                    f"release {release[:16]} names {name}, and no logged statement has the digest {digest[:16]}",
                )


def check_own(found: Replay, actor_id: str, actors: Actors, own: Iterable[bytes]) -> None:
    """Look for entries in an actor's name that the actor did not make; adds alerts.

    Args:
        found: a visit's result.
        actor_id: whose entries.
        actors: where its keys stand.
        own: envelopes that the actor knows to have signed.
    """
    made = set()
    for data in own:
        envelope = Envelope.from_bytes(data)
        made.add(leaf_digest(envelope))
    for actor in actors.actors:
        if actor.id == actor_id:
            for index, digest in found.signed_by.get(sha256_hex(actor.verify_key.spki), []):
                if digest not in made:
                    found.alert("entry_unclaimed", f"{actor_id} does not know of having signed entry {index}", index)


def read_envelopes(folders: Iterable[Path]) -> list[bytes]:
    """Return the bytes of every ``*.dsse.json`` below these folders, each once.

    What a package holds below ``interop/`` repeats its statements for tools of others; it is not logged.
    """
    files = sorted(
        path
        for folder in folders
        for path in folder.rglob("*.dsse.json")
        if "interop" not in path.relative_to(folder).parts
    )
    return list(dict.fromkeys(path.read_bytes() for path in files))


def leaf_digest(envelope: Envelope) -> bytes:
    """Return the digest by which the log knows the signed bytes of an envelope."""
    return hashlib.sha256(pae(envelope.payload_type, envelope.payload)).digest()


def parse_leaf(entry: bytes) -> LeafFacts:
    """Parse an entry in its one spelling.

    Raises:
        MalformedError: another form.
    """
    match canonical.loads(entry, size_max=TILE_WIDTH * 256):
        case {
            "apiVersion": "0.0.2",
            "kind": "hashedrekord",
            "spec": {
                "hashedRekordV002": {
                    "data": {"algorithm": "SHA2_256", "digest": str(digest)},
                    "signature": {
                        "content": str(content),
                        "verifier": {
                            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                            "publicKey": {"rawBytes": str(spki)},
                        },
                    },
                }
            },
        }:
            try:
                facts = LeafFacts(*(base64.b64decode(text, validate=True) for text in (digest, content, spki)))
            except ValueError as error:
                raise MalformedError("expected base64 in an entry") from error
            if len(facts.digest) == hashlib.sha256().digest_size:
                return facts
    raise MalformedError("expected a hashedrekord entry with an ECDSA P-256 signature")


def _head(folder: Path, key: NoteKey, policy: TlogPolicy | None, found: Replay) -> Checkpoint | None:
    try:
        note = SignedCheckpoint.from_bytes((folder / "checkpoint").read_bytes())
        line = next((line for line in note.lines if (line.name, line.key_id) == (key.name, key.key_id)), None)
        if line is None or note.checkpoint.origin != key.name:
            found.alert("checkpoint_invalid", f"the checkpoint is not signed by {key.name}")
            return None
        key.verify(line.signature, note.checkpoint.body)
    except OSError as error:
        found.alert("checkpoint_invalid", f"the checkpoint cannot be read ({error.strerror})")
        return None
    except ProductError as error:
        found.alert("checkpoint_invalid", str(error))
        return None
    found.note = note
    if policy is not None:
        try:
            verify_checkpoint(note, policy)
        except ProductError as error:
            found.alert("checkpoint_not_witnessed", str(error))
    return note.checkpoint


def _batches(reader: TileReader, cuts: set[int]) -> Iterator[list[bytes]]:
    """Yield the entries bundle by bundle, cut also at the given sizes."""
    for number in range(-(-reader.size // TILE_WIDTH)):
        bundle, start = reader.bundle(number), number * TILE_WIDTH
        edges = sorted({start, start + len(bundle)} | {cut for cut in cuts if start < cut < start + len(bundle)})
        for low, high in pairwise(edges):
            yield bundle[low - start : high - start]


def _take(entry: bytes, index: int, known: dict[str, str], found: Replay) -> None:
    leaf = leaf_hash(entry)
    if leaf in found.leaves:
        found.alert("entry_malformed", f"entry {index} repeats entry {found.leaves[leaf]}", index)
        leaf = hashlib.sha256(leaf + index.to_bytes(8, "big")).digest()
    found.leaves[leaf] = index
    try:
        facts = parse_leaf(entry)
    except ProductError as error:
        found.alert("entry_malformed", f"entry {index}: {error}", index)
        return
    keyid = sha256_hex(facts.spki)
    found.digests.add(facts.digest)
    found.signed_by.setdefault(keyid, []).append((index, facts.digest))
    actor = known.get(keyid)
    if actor is None:
        found.alert("actor_unknown", f"entry {index} is signed by the unknown key {keyid[:16]}", index)
    found.entries_by_actor[actor or "?"] += 1
    if not _is_signed(facts):
        found.alert("entry_bad_signature", f"entry {index}: the signature of key {keyid[:16]} does not verify", index)


def _is_signed(facts: LeafFacts) -> bool:
    key = _public_key(facts.spki)
    if key is None:
        return False
    try:
        key.verify(facts.signature, facts.digest, ec.ECDSA(_DIGEST))
    except InvalidSignature:
        return False
    return True


def _compare(folder: Path, changed: dict[str, bytes], size: int, found: Replay) -> None:
    """Compare the files that these entries make with those of the log, as far as they are final."""
    final = {bundle_path(number, width) for number, width in [divmod(size, TILE_WIDTH)] if width}
    level = 0
    while size >> (TILE_HEIGHT * level):
        number, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        final |= {tile_path(level, number, width)} if width else set()
        level += 1
    for path, data in changed.items():
        if ".p/" in path and path not in final:
            continue
        try:
            same = (folder / path).read_bytes() == data
        except OSError:
            same = False
        if not same:
            found.alert("tree_inconsistent", f"{path} is not what the entries make")


def _release_of(envelope: Envelope) -> dict[str, list[tuple[str, str]]]:
    try:
        value = canonical.loads(envelope.payload, size_max=len(envelope.payload))
    except ProductError:
        return {}
    predicate = value.get("predicate")
    named = predicate.get("attestations") if isinstance(predicate, dict) else None
    if value.get("predicateType") != RELEASE or not isinstance(named, list):
        return {}
    return {
        envelope.payload_sha256: [
            (str(item.get("name"))[:80], str(item.get("sha256"))) for item in named if isinstance(item, dict)
        ]
    }


@lru_cache(maxsize=1024)
def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey | None:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None
