import http.client
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

import pytest

from factory.log.cosigning import request_bytes
from factory.log.errors import LogKeyError, LogMissingError, LogRollbackError, NotWitnessedError
from factory.log.home import WitnessPlace, policy_text
from factory.log.log import Log
from factory.log.shard import Shard, envelope_leaf
from factory.log.tiles import TileReader
from factory.log.witness import AddCheckpoint, WitnessServer, create_home, open_home
from nodes.contract.signing import Envelope
from products.errors import MalformedError
from products.log import (
    Checkpoint,
    LogProof,
    NoteLine,
    SignedCheckpoint,
    TlogPolicy,
    sign_checkpoint,
    verify_checkpoint,
    verify_cosignature,
)
from tests.unit.log.logs import NOW, entry, fill, make_home, submission

NOW_S = 1_772_352_000


def signed(home):
    return SignedCheckpoint.from_bytes(home.signed_path(2026).read_bytes())


def ask(witness, home, old, *, note=None, path=None, now_s=NOW_S):
    note = note or signed(home)
    size = note.checkpoint.size
    if path is None:
        path = TileReader(home.shard(2026), size).consistency_path(old, size) if old <= size else []
    return witness.add_checkpoint(request_bytes(old, path, note), now_s=now_s)


def forged(home, size, root):
    """A checkpoint that the log's own key signed for another tree."""
    head = Checkpoint("log.op/2026", size, root)
    return SignedCheckpoint(head, (sign_checkpoint(head, home.signer(2026).private),))


@pytest.fixture
def home(tmp_path):
    made = make_home(tmp_path / "log")
    fill(made, 5)
    return made


@pytest.fixture
def witness(tmp_path, home):
    create_home(tmp_path / "w", name="witness.example/1")
    made = open_home(tmp_path / "w")
    made.store.watch(home.key(2026))
    yield made
    made.store.close()


@contextmanager
def serving(witness):
    server = WitnessServer(witness, clock=lambda: NOW_S)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_log_that_is_not_watched_is_not_found(tmp_path, home):
    create_home(tmp_path / "other", name="witness.example/2")
    other = open_home(tmp_path / "other")
    assert ask(other, home, 0).status == HTTPStatus.NOT_FOUND
    other.store.close()


def test_a_signature_of_another_key_is_forbidden(tmp_path, home, witness):
    stranger = make_home(tmp_path / "stranger")
    fill(stranger, 7)
    assert ask(witness, stranger, 0).status == HTTPStatus.FORBIDDEN
    good = signed(home)
    altered = SignedCheckpoint(replace(good.checkpoint, size=6), good.lines)
    assert ask(witness, home, 0, note=altered, path=[]).status == HTTPStatus.FORBIDDEN
    assert witness.store.held("log.op/2026") is None


def test_a_stale_request_is_told_the_size(home, witness):
    assert ask(witness, home, 0).status == HTTPStatus.OK
    fill(home, 5, start=5)
    answer = ask(witness, home, 0)
    assert (answer.status, answer.text) == (HTTPStatus.CONFLICT, "5\n")


def test_a_rollback_is_refused_and_kept_as_evidence(home, witness):
    small = signed(home)
    fill(home, 5, start=5)
    assert ask(witness, home, 0).status == HTTPStatus.OK
    answer = ask(witness, home, 0, note=small)
    assert (answer.status, answer.text) == (HTTPStatus.CONFLICT, "10\n")
    assert ask(witness, home, 10, note=small).status == HTTPStatus.BAD_REQUEST
    assert [item.kind for item in witness.store.evidence()] == ["rollback"]
    assert witness.store.held("log.op/2026").checkpoint.size == 10


def test_a_fork_of_the_same_size_is_refused_and_kept_as_evidence(home, witness):
    assert ask(witness, home, 0).status == HTTPStatus.OK
    fork = forged(home, 5, bytes(32))
    assert ask(witness, home, 5, note=fork, path=[]).status == HTTPStatus.UNPROCESSABLE_ENTITY
    evidence = witness.store.evidence()
    assert [item.kind for item in evidence] == ["fork"]
    # Both sides of the evidence carry the log's own signature, so that it convinces a third party.
    for data in (AddCheckpoint.from_bytes(evidence[0].request).note, SignedCheckpoint.from_bytes(evidence[0].held)):
        home.key(2026).verify(data.lines[0].signature, data.checkpoint.body)


def test_a_flood_of_wrong_proofs_leaves_room_for_a_fork(home, witness, monkeypatch):
    monkeypatch.setattr("factory.log.witness_store.EVIDENCE_MAX", 3)
    assert ask(witness, home, 0).status == HTTPStatus.OK
    fill(home, 1, start=5)
    for place in range(5):
        ask(witness, home, 5, path=[bytes([place]) * 32])
    assert ask(witness, home, 5, note=forged(home, 5, bytes(32)), path=[]).status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert sorted(item.kind for item in witness.store.evidence()) == ["fork", "unproven", "unproven", "unproven"]


def test_a_fork_that_grows_is_refused_and_kept_as_evidence(tmp_path, home, witness):
    assert ask(witness, home, 0).status == HTTPStatus.OK
    other = make_home(tmp_path / "other")
    fill(other, 9, start=100)
    fork = forged(home, 9, signed(other).checkpoint.root)
    path = TileReader(other.shard(2026), 9).consistency_path(5, 9)
    assert ask(witness, home, 5, note=fork, path=path).status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert [item.kind for item in witness.store.evidence()] == ["unproven"]
    assert witness.store.held("log.op/2026").checkpoint.size == 5


def test_a_wrong_proof_from_the_empty_tree_is_refused_without_evidence(home, witness):
    assert ask(witness, home, 0, path=[bytes(32)]).status == HTTPStatus.UNPROCESSABLE_ENTITY
    assert witness.store.evidence() == []


def test_a_repeated_fork_fills_no_disk(home, witness):
    ask(witness, home, 0)
    for _ in range(5):
        ask(witness, home, 5, note=forged(home, 5, bytes(32)), path=[])
    assert len(witness.store.evidence()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 5\n",
        b"old 05\n\nlog.op/2026\n",
        b"old -1\n\nx\n",
        b"size 5\n\nx\n",
        b"old 5\nnot base64\n\nx\n",
        b"old 5\nAAAA\n\nlog\n5\nAAAA\n\n",
        b"old 5\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\nx\n",
    ],
)
def test_a_malformed_request_is_a_bad_request(witness, body):
    assert witness.add_checkpoint(body, now_s=NOW_S).status == HTTPStatus.BAD_REQUEST
    with pytest.raises(MalformedError):
        AddCheckpoint.from_bytes(body)


def test_a_clock_set_back_does_not_make_a_later_tree_older(home, witness):
    ask(witness, home, 0, now_s=NOW_S)
    answer = ask(witness, home, 5, now_s=NOW_S - 500)
    line = NoteLine.from_text(answer.text.rstrip("\n"))
    assert verify_cosignature(signed(home).checkpoint, line, witness.key) == NOW_S


def test_the_store_survives_a_restart(tmp_path, home, witness):
    ask(witness, home, 0)
    again = open_home(tmp_path / "w")
    assert again.store.held("log.op/2026").checkpoint == signed(home).checkpoint
    assert again.key == witness.key
    again.store.close()


def test_a_witness_key_is_never_overwritten_and_never_shared(tmp_path, witness):
    with pytest.raises(LogKeyError):
        create_home(tmp_path / "w", name="witness.example/1")
    (tmp_path / "w/keys/witness.pem").chmod(0o644)
    with pytest.raises(LogKeyError):
        open_home(tmp_path / "w")
    with pytest.raises(LogMissingError):
        open_home(tmp_path / "nowhere")


def test_of_racing_requests_one_is_cosigned(home, witness):
    ask(witness, home, 0)
    requests = []
    for start in range(5, 45, 5):
        fill(home, 5, start=start)
        size = start + 5
        requests.append(request_bytes(5, TileReader(home.shard(2026), size).consistency_path(5, size), signed(home)))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: witness.add_checkpoint(body, now_s=NOW_S).status, requests))
    assert sorted(answers) == [HTTPStatus.OK] + [HTTPStatus.CONFLICT] * 7


def post(url, path, body, headers):
    connection = http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=5)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_the_service_bounds_what_it_reads(witness):
    with serving(witness) as url:
        assert post(url, "/add-checkpoint", b"", {"Content-Length": "9999999"}).status == 413
        assert post(url, "/add-checkpoint", b"", {"Content-Length": "x"}).status == 413
        assert post(url, "/other", b"", {}).status == 404
        assert post(url, "/add-checkpoint", b"x", {}).status == 400


def test_a_conflict_has_the_content_type_of_the_specification(home, witness):
    ask(witness, home, 0)
    with serving(witness) as url:
        answer = post(url, "/add-checkpoint", request_bytes(3, [], signed(home)), {})
        assert (answer.status, answer.getheader("Content-Type")) == (409, "text/x.tlog.size")


def places(*pairs):
    return tuple(WitnessPlace(witness.key, url) for witness, url in pairs)


def test_a_log_without_its_quorum_gives_no_proof_and_recovers_when_the_witness_answers(tmp_path, home, witness):
    address = tmp_path / "w/address"
    home = home.with_witnesses((WitnessPlace(witness.key, str(address)),), 1)
    with Log.open(home, now=NOW) as log:
        with pytest.raises(NotWitnessedError, match="start the witness"):
            log.publish([submission(0)])
        address.write_text("http://127.0.0.1:9\n")
        with pytest.raises(NotWitnessedError, match="running"):
            log.publish([submission(0)])
        with serving(witness) as url:
            address.write_text(f"{url}\n")
            logged = log.publish([submission(0)])
    assert logged[0].index == 5
    assert logged[0].origin == "log.op/2026"


def test_a_published_statement_verifies_under_the_policy(home, witness):
    with serving(witness) as url:
        home = home.with_witnesses(places((witness, url)), 1)
        with Log.open(home, now=NOW) as log:
            for count in (1, 3):  # the second time with a consistency proof from the first
                logged = log.publish([submission(number) for number in range(count)])
    policy = TlogPolicy.from_bytes(home.policy_text())
    assert [item.index for item in logged] == [5, 6, 7]
    for number, item in enumerate(logged):
        proof = LogProof.from_bytes(item.proof)
        proof.verify(envelope_leaf(Envelope.from_bytes(submission(number).envelope), submission(number).spki))
        witnessed = verify_checkpoint(proof.note, policy)
        assert int(witnessed.at.timestamp()) == NOW_S
        assert witnessed.witnesses == ("w1",)
    assert Shard(home, 2026).checkpoint() == Shard(home, 2026).witnessed()


def test_two_of_three_witnesses_are_a_quorum(tmp_path, home, witness):
    create_home(tmp_path / "w2", name="witness.example/2")
    create_home(tmp_path / "w3", name="witness.example/3")
    second, third = open_home(tmp_path / "w2"), open_home(tmp_path / "w3")
    second.store.watch(home.key(2026))
    with serving(witness) as one, serving(second) as two, serving(third) as three:
        home = home.with_witnesses(places((witness, one), (second, two), (third, three)), 2)
        with Log.open(home, now=NOW) as log:
            cosigned = log.cosign()
    assert [name for name, _ in cosigned.refusals] == ["witness.example/3"]
    assert verify_checkpoint(cosigned.note, TlogPolicy.from_bytes(home.policy_text())).witnesses == ("w1", "w2")
    second.store.close()
    third.store.close()


def test_a_log_put_back_as_a_whole_is_caught_by_the_witness(tmp_path, home, witness):
    with serving(witness) as url:
        home = home.with_witnesses(places((witness, url)), 1)
        subprocess.run(["cp", "-a", str(home.folder), str(tmp_path / "backup")], check=True)
        with Log.open(home, now=NOW) as log:
            log.publish([submission(0)])
        restored = replace(home, folder=tmp_path / "backup")
        with Log.open(restored, now=NOW) as log, pytest.raises(LogRollbackError, match="cosigned 6"):
            log.cosign()


def test_a_policy_needs_logs_witnesses_and_a_quorum_among_them(home, witness):
    for logs, witnesses, quorum in (
        ([], [witness.key], 1),
        ([home.key(2026)], [], 0),
        ([home.key(2026)], [witness.key], 2),
    ):
        with pytest.raises(ValueError):
            policy_text(logs, witnesses, quorum)


def test_the_witness_process_serves_on_the_loopback_and_survives_kill_9(tmp_path, home, witness):
    folder = tmp_path / "w"
    home = home.with_witnesses((WitnessPlace(witness.key, str(folder / "address")),), 1)
    for round_number, ending in ((0, signal.SIGKILL), (1, signal.SIGTERM)):
        child = subprocess.Popen(
            [sys.executable, "-m", "factory.log.witness", "--home", str(folder)], stdout=subprocess.PIPE
        )
        try:
            assert child.stdout.readline().startswith(b"witness.example/1 http://127.0.0.1:")
            with Log.open(home, now=NOW) as log:
                log.append_entries([entry(50 + round_number)])
                assert log.cosign().note.checkpoint.size == 6 + round_number
        finally:
            os.kill(child.pid, ending)
            child.stdout.close()
            code = child.wait(10)
        assert code == (-9 if ending == signal.SIGKILL else 0)
