import base64
import shutil
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from factory.log.log import Log, Submission
from factory.log.monitor import check_own, check_packages, parse_leaf, read_envelopes, replay
from factory.log.shard import Shard
from factory.log.tiles import bundle_path, pack_bundle
from nodes.contract.signing import sign
from nodes.contract.statement import PAYLOAD_TYPE, RELEASE, REVIEW, statement
from nodes.contract.trust import Actor, Actors
from products.errors import MalformedError
from products.log import COSIGNATURE_TYPE, TlogPolicy, note_key
from tests.unit.log.logs import NOW, entry, make_home, signing_key, submission


def actor(name, number):
    return Actor(
        id=name,
        organisation=f"org-{name}",
        title_zh="某单位",
        title_en="A body",
        roles=("node",),
        statement_spki=base64.b64encode(signing_key(number).public.spki).decode(),
        not_before=NOW - timedelta(days=1),
        not_after=NOW + timedelta(days=365),
    )


ACTORS = Actors(actors=(actor("node-east", 0), actor("node-west", 1)))


@pytest.fixture
def home(tmp_path):
    made = make_home(tmp_path / "log")
    with Log.open(made, now=NOW) as log:
        log.append([submission(number, number % 2) for number in range(300)])
    return made


def visit(home, **options):
    return replay(home.shard(2026), home.key(2026), actors=ACTORS, **options)


def codes(found):
    return sorted({alert.code for alert in found.alerts})


def test_a_checkpoint_of_another_key_is_an_alert(tmp_path, home):
    other = make_home(tmp_path / "other")
    assert codes(replay(home.shard(2026), other.key(2026), actors=ACTORS)) == ["checkpoint_invalid"]
    (home.shard(2026) / "checkpoint").unlink()
    assert codes(visit(home)) == ["checkpoint_invalid"]


def test_a_checkpoint_without_its_quorum_is_an_alert(home):
    witness = note_key("witness.example/1", COSIGNATURE_TYPE, Ed25519PrivateKey.generate()).vkey
    policy = TlogPolicy.from_bytes(f"log {home.key(2026).vkey}\nwitness w1 {witness}\nquorum w1\n".encode())
    assert codes(visit(home, policy=policy)) == ["checkpoint_not_witnessed"]


@pytest.mark.parametrize("path", ["tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_an_altered_hash_tile_is_an_alert(home, path):
    tile = home.shard(2026) / path
    data = bytearray(tile.read_bytes())
    data[-1] ^= 1
    tile.write_bytes(data)
    assert codes(visit(home)) == ["tree_inconsistent"]


def test_an_altered_entry_is_an_alert(home):
    bundle = home.shard(2026) / "tile/entries/000"
    bundle.write_bytes(bundle.read_bytes().replace(b"SHA2_256", b"SHA2_257", 1))
    assert codes(visit(home)) == ["entry_malformed", "tree_inconsistent"]


def test_a_missing_tile_is_an_alert(home):
    (home.shard(2026) / bundle_path(0)).unlink()
    assert codes(visit(home)) == ["tree_inconsistent"]


def test_an_entry_of_an_unknown_actor_is_an_alert(home):
    with Log.open(home, now=NOW) as log:
        log.append([submission(0, 5)])
    alerts = visit(home).alerts
    assert [(alert.code, alert.index) for alert in alerts] == [("actor_unknown", 300)]


def test_entries_that_are_no_records_or_badly_signed_are_alerts(home):
    with Log.open(home, now=NOW) as log:
        first = next(Shard(home, 2026).reader(300).entries())
        swapped = first.replace(base64.b64encode(parse_leaf(first).digest), base64.b64encode(bytes(range(32))))
        log.append_entries([entry(1), swapped])
    assert {(alert.code, alert.index) for alert in visit(home).alerts} == {
        ("entry_malformed", 300),
        ("entry_bad_signature", 301),
    }


def test_a_tree_that_shrank_since_the_last_visit_is_an_alert(tmp_path, home):
    shutil.copytree(home.shard(2026), tmp_path / "old")
    with Log.open(home, now=NOW) as log:
        log.append([submission(301)])
    now = visit(home).note.checkpoint
    found = replay(tmp_path / "old", home.key(2026), actors=ACTORS, previous=now)
    assert codes(found) == ["tree_rolled_back"]


def test_a_history_written_anew_since_the_last_visit_is_an_alert(tmp_path, home):
    previous = visit(home).note.checkpoint
    shutil.rmtree(home.shard(2026))
    shutil.rmtree(home.state(2026))
    home.prepare(2026)
    with Log.open(home, now=NOW) as log:
        log.append([submission(number, number % 2) for number in range(1, 400)])
    assert codes(visit(home)) == []
    assert codes(visit(home, previous=previous)) == ["tree_inconsistent"]


def test_a_good_log_raises_no_alert_and_is_counted(home):
    previous = visit(home).note.checkpoint
    with Log.open(home, now=NOW) as log:
        log.append([submission(number) for number in range(300, 900)])
    found = visit(home, previous=previous)
    assert found.alerts == []
    assert found.entries_by_actor == {"node-east": 750, "node-west": 150}
    assert found.note.checkpoint.size == 900


def release_of(reviews):
    named = [
        {"name": f"review-{number}", "predicate_type": REVIEW, "sha256": review.payload_sha256}
        for number, review in enumerate(reviews)
    ]
    payload = statement(RELEASE, [("data/product/model.onnx", "0" * 64)], {"attestations": named})
    return sign(signing_key(0), PAYLOAD_TYPE, payload)


def reviews():
    return [
        sign(signing_key(1), PAYLOAD_TYPE, statement(REVIEW, [("a", "0" * 64)], {"finding": number}))
        for number in range(2)
    ]


def log_all(home, envelopes):
    with Log.open(home, now=NOW) as log:
        for envelope in envelopes:
            signer = 0 if envelope.keyid == signing_key(0).public.keyid else 1
            log.append([Submission(envelope.to_bytes(), signing_key(signer).public.spki)])


def test_a_release_whose_review_is_not_logged_is_an_alert(home):
    first, second = reviews()
    release = release_of([first, second])
    log_all(home, [first, release])
    found = visit(home)
    check_packages(found, [item.to_bytes() for item in (first, second, release)], ACTORS)
    assert codes(found) == ["release_statement_missing", "statement_not_logged"]
    found = visit(home)
    check_packages(found, [item.to_bytes() for item in (first, release)], ACTORS)
    assert codes(found) == ["release_statement_missing"]


def test_a_published_statement_of_an_unknown_key_is_an_alert(home):
    found = visit(home)
    check_packages(found, [submission(0, 5).envelope, b"not an envelope"], ACTORS)
    assert codes(found) == ["actor_unknown", "statement_not_logged"]


def test_a_complete_release_raises_no_alert(tmp_path, home):
    every = [*reviews()]
    every.append(release_of(every))
    log_all(home, every)
    for number, envelope in enumerate(every):
        path = tmp_path / f"package/attestations/{number}.dsse.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(envelope.to_bytes())
    found = visit(home)
    check_packages(found, read_envelopes([tmp_path / "package"]), ACTORS)
    assert found.alerts == []


def test_an_entry_in_my_name_that_i_did_not_make_is_an_alert(home):
    found = visit(home)
    mine = [submission(number, 1).envelope for number in range(1, 300, 2)]
    check_own(found, "node-west", ACTORS, mine)
    assert found.alerts == []
    check_own(found, "node-west", ACTORS, mine[1:])
    assert [(alert.code, alert.index) for alert in found.alerts] == [("entry_unclaimed", 1)]


def test_alerts_are_bounded(home):
    bundle = home.shard(2026) / "tile/entries/000"
    bundle.write_bytes(pack_bundle([b"x"] * 256))
    found = visit(home)
    for _ in range(2000):
        found.alert("tree_inconsistent", "again")
    assert len(found.alerts) == 1000


def test_an_entry_in_another_spelling_is_refused(home):
    good = next(Shard(home, 2026).reader(300).entries())
    parse_leaf(good)
    for bad in (good + b" ", good.replace(b"0.0.2", b"0.0.3"), b"{}", good.replace(b"ECDSA_P256", b"ED25519")):
        with pytest.raises(MalformedError):
            parse_leaf(bad)
