"""The formats of the log: proofs against the obvious recursion, notes against altered ones."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from products import log
from products.errors import BadProofError, MalformedError
from products.log import Checkpoint, LogProof, NoteKey, SignedCheckpoint, TlogPolicy
from tests.package_fixture import ed25519, signed_checkpoint, tlog_policy, tree_path, tree_root

LEAVES = [log.leaf_hash(b"entry %d" % i) for i in range(33)]
AT = datetime(2026, 11, 20, tzinfo=UTC)


def _consistency(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """RFC 9162 section 2.1.4.1, literally."""
    n = len(leaves)
    if m == n:
        return [] if whole else [tree_root(leaves)]
    k = 1
    while 2 * k < n:
        k *= 2
    if m <= k:
        return [*_consistency(m, leaves[:k], whole), tree_root(leaves[k:])]
    return [*_consistency(m - k, leaves[k:], False), tree_root(leaves[:k])]


def test_every_entry_of_every_small_tree_is_proven() -> None:
    for size in range(1, 34):
        for index in range(size):
            path = tree_path(index, LEAVES[:size])
            log.verify_inclusion(index, size, LEAVES[index], path, tree_root(LEAVES[:size]))


def test_a_proof_of_another_place_is_refused() -> None:
    root, path = tree_root(LEAVES[:20]), tree_path(7, LEAVES[:20])
    for index, size in ((6, 20), (7, 40), (7, 8), (20, 20), (-1, 20)):
        with pytest.raises(BadProofError):
            log.verify_inclusion(index, size, LEAVES[7], path, root)


def test_a_longer_or_shorter_path_is_refused() -> None:
    root, path = tree_root(LEAVES[:20]), tree_path(7, LEAVES[:20])
    for wrong in (path[:-1], [*path, LEAVES[0]], path[::-1], []):
        with pytest.raises(BadProofError):
            log.verify_inclusion(7, 20, LEAVES[7], wrong, root)


def test_every_pair_of_small_trees_is_consistent() -> None:
    for size2 in range(1, 20):
        for size1 in range(1, size2 + 1):
            path = _consistency(size1, LEAVES[:size2])
            log.verify_consistency(size1, tree_root(LEAVES[:size1]), size2, tree_root(LEAVES[:size2]), path)


def test_a_rewritten_tree_is_not_consistent() -> None:
    other = [LEAVES[1], *LEAVES[1:]]
    for size1 in range(1, 12):
        path = _consistency(size1, other[:12])
        with pytest.raises(BadProofError):
            log.verify_consistency(size1, tree_root(LEAVES[:size1]), 12, tree_root(other[:12]), path)


def test_a_tree_that_shrinks_is_not_consistent() -> None:
    with pytest.raises(BadProofError, match="at least 9"):
        log.verify_consistency(9, tree_root(LEAVES[:9]), 8, tree_root(LEAVES[:8]), [])


def test_everything_extends_the_empty_tree_and_nothing_else_is_empty() -> None:
    log.verify_consistency(0, log.EMPTY_ROOT, 5, tree_root(LEAVES[:5]), [])
    with pytest.raises(BadProofError):
        log.verify_consistency(0, b"\0" * 32, 5, tree_root(LEAVES[:5]), [])


def test_the_example_key_of_the_specification_is_read() -> None:
    # golang.org/x/mod/sumdb/note, package example; the id is SHA-256(name, newline, type, key)[:4].
    key = NoteKey.from_vkey("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    line = log.NoteLine.from_text(
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert line.key_id == key.key_id
    key.verify(line.signature, text)


@pytest.mark.parametrize(
    "text", ["a+b", "name+00000000+AAAA", "na me+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
)
def test_a_wrong_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        NoteKey.from_vkey(text)


def test_the_time_of_a_checkpoint_is_when_the_quorum_was_reached() -> None:
    note = signed_checkpoint(LEAVES, AT, witnesses=("archive", "supervisor", "exchange"))
    witnessed = log.verify_checkpoint(note, TlogPolicy.from_bytes(tlog_policy()))
    assert (witnessed.at - AT).total_seconds() == 1
    assert witnessed.first_at == AT


@pytest.mark.parametrize("witnesses", [(), ("archive",)])
def test_fewer_witnesses_than_the_quorum_do_not_count(witnesses: tuple[str, ...]) -> None:
    note = signed_checkpoint(LEAVES, AT, witnesses=witnesses)
    with pytest.raises(BadProofError, match="quorum"):
        log.verify_checkpoint(note, TlogPolicy.from_bytes(tlog_policy()))


def test_one_witness_twice_is_not_two() -> None:
    note = signed_checkpoint(LEAVES, AT, witnesses=("archive",))
    twice = SignedCheckpoint(note.checkpoint, (*note.lines, note.lines[-1]))
    with pytest.raises(BadProofError):
        log.verify_checkpoint(twice, TlogPolicy.from_bytes(tlog_policy()))


def test_a_cosignature_with_another_time_is_refused() -> None:
    note = signed_checkpoint(LEAVES, AT)
    line = note.lines[1]
    later = log.NoteLine(line.name, line.key_id, (int(AT.timestamp()) + 1).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(BadProofError, match="does not verify"):
        log.verify_checkpoint(
            SignedCheckpoint(note.checkpoint, (note.lines[0], later)), TlogPolicy.from_bytes(tlog_policy())
        )


def test_proof_and_checkpoint_have_one_spelling() -> None:
    proof = LogProof(3, tuple(tree_path(3, LEAVES)), signed_checkpoint(LEAVES, AT))
    data = proof.to_bytes()
    assert LogProof.from_bytes(data) == proof
    for wrong in (data + b"\n", data[:-1], data.replace(b"index 3", b"index 03"), data.replace(b"\n", b"\r\n"), b""):
        with pytest.raises(MalformedError):
            LogProof.from_bytes(wrong)


def test_a_proof_of_a_single_entry_has_no_path() -> None:
    proof = LogProof(0, (), signed_checkpoint(LEAVES[:1], AT))
    assert LogProof.from_bytes(proof.to_bytes()) == proof


def test_a_checkpoint_body_has_three_lines() -> None:
    body = Checkpoint("example.com/log", 5, hashlib.sha256(b"").digest()).body
    assert Checkpoint.from_body(body).size == 5
    for wrong in (body + b"extension\n", body[:-1], body.replace(b"5", b"-5"), b"\n" + body):
        with pytest.raises(MalformedError):
            Checkpoint.from_body(wrong)


def _vkey(kind: int) -> str:
    return log.note_key("k.example", kind, Ed25519PrivateKey.generate()).vkey


@pytest.mark.parametrize(
    "lines",
    [
        ["witness w {w}", "quorum w"],
        ["log {l}", "quorum none"],
        ["log {l}", "witness w {w}"],
        ["log {l}", "witness w {w}", "quorum v"],
        ["log {l}", "witness w {l}", "quorum w"],
        ["log {l}", "witness w {w}", "witness v {w}", "quorum w"],
        ["log {l}", "witness w {w}", "group g 2 w", "quorum g"],
        ["log {l}", "witness w {w}", "group g 0 w", "quorum g"],
        ["log {l}", "witness w {w}", "group g all w w", "quorum g"],
        ["log {l}", "group g any w", "witness w {w}", "quorum g"],
        ["log {l}", "witness w {w}", "quorum w", "quorum w"],
        ["log {l}", "witness w {w}", "require w", "quorum w"],
    ],
)
def test_a_wrong_policy_is_refused(lines: list[str]) -> None:
    names = {"l": _vkey(log.SIGNATURE_TYPE), "w": _vkey(log.COSIGNATURE_TYPE)}
    with pytest.raises(MalformedError):
        TlogPolicy.from_bytes("\n".join(line.format(**names) for line in lines).encode())


def test_groups_of_groups_count_as_the_specification_says() -> None:
    lines = [f"log {_vkey(log.SIGNATURE_TYPE)}", "# two houses"]
    lines += [f"witness {n} {_vkey(log.COSIGNATURE_TYPE)}" for n in ("x1", "x2", "x3", "y1", "y2")]
    lines += ["group x 2 x1 x2 x3", "group y any y1 y2", "group both all x y", "quorum both", ""]
    policy = TlogPolicy.from_bytes("\n".join(lines).encode())
    assert policy.is_quorum({"x1", "x3", "y2"})
    assert not policy.is_quorum({"x1", "x2", "x3"})
    assert not policy.is_quorum({"x1", "y1", "y2"})


def test_the_leaf_is_a_rekor_entry_without_the_statement() -> None:
    entry = log.leaf_bytes(b"secret words", b"signature", b"key")
    assert b"secret" not in entry
    assert entry.startswith(b'{"apiVersion":"0.0.2","kind":"hashedrekord"')
    assert ed25519("log") is ed25519("log")
