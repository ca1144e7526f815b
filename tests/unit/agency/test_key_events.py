"""Key events: nobody can leave one out, take a mark back, or publish one that a registrar did not sign."""

from datetime import timedelta
from pathlib import Path

import pytest

from factory.agency import key_events, trust_repository
from factory.agency.cooperation import approve_cooperation
from factory.agency.errors import AdmissionRefusedError, SignatureMissingError
from factory.agency.key_events import derive, read_events
from factory.agency.office import sign_trust
from factory.identity import rotate_identity
from factory.log.log import Log
from factory.trust import TrustInvalidError
from nodes.contract.errors import UnknownActorError
from nodes.contract.messages import parse
from nodes.contract.signing import Envelope as SignedEnvelope
from nodes.contract.statement import KEY_EVENT, PAYLOAD_TYPE, read
from nodes.contract.trust import Actors
from products.dsse import Envelope
from products.log import LogProof, leaf_bytes
from tests import offices
from tests.offices import NOW, person
from tests.unit.log.logs import make_home

LATER = NOW + timedelta(days=30)


@pytest.fixture
def operated(world: offices.World) -> offices.World:
    world.add("operator", "company", "operator")
    world.publish()
    return world


def _actors(world: offices.World) -> Actors:
    return parse(Actors, trust_repository.published_targets(world.office.trust_folder)["actors.json"])


def _with(actors: Actors, actor_id: str, **changes: object) -> Actors:
    return Actors(actors=tuple(a.model_copy(update=changes) if a.id == actor_id else a for a in actors.actors))


def _later(world: offices.World) -> offices.World:
    world.at(LATER)
    world.office.refresh()
    return world


@pytest.mark.parametrize(
    "changes",
    [
        {"organisation": "other"},
        {"roles": ("operator", "node")},
        {"not_before": NOW - timedelta(days=9)},
        {"not_after": NOW + timedelta(days=9000)},
    ],
)
def test_a_listed_key_changes_in_its_end_alone(operated: offices.World, changes: dict[str, object]) -> None:
    before = _actors(operated)
    with pytest.raises(TrustInvalidError, match="operator"):
        derive(before, _with(before, "operator", **changes), version=2)


@pytest.mark.parametrize("name", ["compromised_since", "removed_at"])
def test_a_mark_is_not_taken_back_and_reaches_no_less_far(operated: offices.World, name: str) -> None:
    before = _with(_actors(operated), "operator", **{name: LATER})
    for later in (None, LATER + timedelta(seconds=1)):
        with pytest.raises(TrustInvalidError, match=name):
            derive(before, _with(before, "operator", **{name: later}), version=2)
    assert len(derive(before, _with(before, "operator", **{name: NOW}), version=2)) == 1


def test_a_key_does_not_leave_the_list(operated: offices.World) -> None:
    before = _actors(operated)
    with pytest.raises(TrustInvalidError, match="gone"):
        derive(before, Actors(actors=before.actors[:-1]), version=2)


def test_a_registrar_does_not_sign_a_list_that_takes_a_mark_back(operated: offices.World) -> None:
    operated.office.compromise("operator", since=NOW)
    operated.publish()
    operated.office._propose({"actors.json": _with(_actors(operated), "operator", compromised_since=None).to_payload()})
    with pytest.raises(TrustInvalidError, match="compromised_since"):
        sign_trust(operated.registrars[0], operated.office.trust_folder, now=NOW)


def test_a_list_is_not_published_without_the_events_that_follow_from_it(operated: offices.World) -> None:
    operated.office.remove("operator")
    for registrar in operated.registrars:
        sign_trust(registrar, operated.office.trust_folder, now=NOW)
    (event,) = (operated.office.trust_folder / "pending" / key_events.FOLDER).glob("1.registrar-2.dsse.json")
    event.write_bytes(event.with_name("1.registrar-1.dsse.json").read_bytes())
    with pytest.raises(SignatureMissingError, match="key event"):
        operated.office.publish()
    assert _actors(operated).find("operator", role="operator", moment=NOW)


def test_every_admission_is_an_event_of_both_registrars(operated: offices.World) -> None:
    rows = read_events(operated.office.home)
    assert [(row.version, row.event, row.actor) for row in rows] == [
        (1, "add", "agency"),
        (1, "add", "operator"),
        (1, "add", "registrar-1"),
        (1, "add", "registrar-2"),
    ]
    assert {row.signers for row in rows} == {("registrar-1", "registrar-2")}


def test_a_rotation_names_its_successor(operated: offices.World) -> None:
    old = operated.others["operator"]
    new = rotate_identity(old, now=LATER)
    _later(operated).office.rotate((old.home / "enrolment.json").read_bytes())
    operated.publish()
    rows = [row for row in read_events(operated.office.home) if row.version == 2]
    assert {(row.event, row.keyid) for row in rows} == {("add", new.key.public.keyid), ("rotate", old.key.public.keyid)}
    number = next(row.number for row in rows if row.event == "rotate")
    path = operated.office.home / key_events.FOLDER / "2" / f"{number}.registrar-1.dsse.json"
    payload = SignedEnvelope.from_bytes(path.read_bytes()).open(operated.registrars[0].key.public, PAYLOAD_TYPE)
    assert read(payload, KEY_EVENT)[1]["successor"] == new.key.public.keyid


def test_the_compromise_of_an_old_key_leaves_the_new_one(operated: offices.World) -> None:
    old = operated.others["operator"]
    new = rotate_identity(old, now=LATER)
    _later(operated).office.rotate((old.home / "enrolment.json").read_bytes())
    operated.publish()
    operated.office.compromise("operator", since=NOW + timedelta(days=1), keyid=old.key.public.keyid)
    operated.publish()
    actors = operated.office.trust().actors
    assert actors.find("operator", role="operator", moment=LATER).verify_key == new.key.public
    assert actors.find("operator", role="operator", moment=NOW).verify_key == old.key.public
    with pytest.raises(UnknownActorError):
        actors.find("operator", role="operator", moment=NOW + timedelta(days=2))


def test_whose_only_key_is_compromised_is_admitted_anew_as_itself_alone(
    operated: offices.World, tmp_path: Path
) -> None:
    _later(operated).office.compromise("operator", since=NOW + timedelta(days=1))
    operated.publish()
    other = person(tmp_path / "other", "operator", "other-company", "operator")
    office = operated.office
    approve_cooperation(
        office.identity, "other-company", task="t", official="o", reason="r", until=office.now() + timedelta(days=9),
        now=office.now(),
    )  # fmt: skip
    with pytest.raises(AdmissionRefusedError, match="organisation"):
        operated.office.admit((other.home / "enrolment.json").read_bytes())
    again = person(tmp_path / "again", "operator", "company", "operator")
    operated.office.admit((again.home / "enrolment.json").read_bytes())
    operated.publish()
    actors = operated.office.trust().actors
    assert actors.find("operator", role="operator", moment=LATER).verify_key == again.key.public
    assert [row.event for row in read_events(operated.office.home) if row.version > 1] == ["compromise", "add"]


def test_events_are_logged_once_with_proofs_that_hold(operated: offices.World, tmp_path: Path) -> None:
    home = make_home(tmp_path / "log")
    with Log.open(home, now=operated.office.now()) as log:
        assert operated.office.store_events(log) == 8
        assert operated.office.store_events(log) == 0
    assert all(row.is_logged for row in read_events(operated.office.home))
    path = operated.office.home / key_events.FOLDER / "1" / "1.registrar-1.dsse.json"
    proof = LogProof.from_bytes(path.with_name("1.registrar-1.tlog-proof").read_bytes())
    envelope = Envelope.from_bytes(path.read_bytes())
    proof.verify(leaf_bytes(envelope.pae, envelope.signature, operated.registrars[0].key.public.spki))
