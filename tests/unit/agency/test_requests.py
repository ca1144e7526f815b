"""Requests, rulings and grants: what the agency refuses, cuts, signs and hands out."""

import base64
from datetime import timedelta

import pytest

from factory.agency.client import AgencyClient
from factory.agency.errors import NothingPendingError, RequestRefusedError, SignatureMissingError
from factory.agency.rulings import Rulings, sign_grant
from factory.agency.service import AgencyService
from factory.errors import NodeRefusedError
from factory.identity import new_signing_key
from factory.lifecycle.request import Cut, Ruling
from factory.registry.request import RequestFileError, read_agreement, read_request
from factory.registry.store import Registry
from nodes.contract import wire
from nodes.contract.enrolment import Enrolment, sign_enrolment
from nodes.contract.messages import Query, Refusal, encode, parse
from nodes.contract.signing import sha256_hex
from nodes.contract.statement import open_grant
from nodes.contract.trust import StatusItem
from tests import offices
from tests import request_texts as texts
from tests.offices import NOW
from tests.town import catalogue_entries

FINDINGS = {"reasonable": "yes: …", "compliant": "yes: …", "secure": "yes: …"}


class Bus:
    """Carries parcels to a handler in this process."""

    def __init__(self, handler):
        self.handler = handler
        self.last = b""

    def ask(self, node, parcel, *, timeout_s):
        self.last = parcel
        return self.handler(parcel)


class Desk:
    def __init__(self, folder):
        self.world = offices.world(folder)
        self.operator = self.world.add("operator", "operator-ltd", "operator")
        self.unit = self.world.add("unit-1", "bank", "application_unit")
        nodes = {}
        for name in ("east", "west", "north"):
            key = new_signing_key()
            enrolment = Enrolment(
                id=f"node-{name}",
                organisation=f"dept-{name}",
                title_zh=name,
                title_en=name,
                roles=("node",),
                statement_spki=base64.b64encode(key.public.spki).decode(),
                made_at=NOW,
            )
            bundle = sign_enrolment(enrolment, key)
            offices.ready(self.world.office, bundle)
            self.world.office.admit(bundle)
            nodes[name] = (key, f"dept-{name}")
        self.world.publish()
        self.registry = Registry.at(folder / "registry.db")
        self.rulings = Rulings(self.world.office, self.registry)
        catalogue_entries(self.world.office, self.registry, nodes)
        self.rulings.add_agreement(read_agreement(texts.AGREEMENT), official="official")
        self.service = AgencyService(self.world.office, self.registry)
        self.bus = Bus(self.service.handle)

    def client(self, identity=None):
        identity = identity or self.operator
        agency = self.world.office.identity
        return AgencyClient(self.bus, identity.id, identity.key, "agency", agency.key.public, now=lambda: NOW)

    def request(self, **changes):
        return read_request(texts.request_text(**changes), operator="operator", now=NOW)

    def submit(self, **changes):
        return self.client().submit_request(self.request(**changes).to_payload())["request_id"]

    def rule(self, request_id, **changes):
        fields = {
            "official": "官员甲",
            "organisation": "data-bureau",
            "approve": True,
            "findings": FINDINGS,
            "reason": "necessary for the scenario",
        }
        return self.rulings.rule(request_id, Ruling(**{**fields, **changes}))

    def sign(self, grant, *which):
        for number in which:
            sign_grant(self.world.registrars[number], self.rulings.desk / grant.grant_id)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.registry.close()


@pytest.mark.parametrize(
    ("replace", "word"),
    [
        ({'need = "screening"': 'need = " "'}, "need"),
        ({'goals = ["a model"]': "goals = []"}, "goal"),
        ({'age = "risk rises with age"\ntarget = "what is learnt"': ""}, "justification"),
        ({'agreement = "agr-2026-1"': 'agreement = "agr-none"'}, "agreement"),
        ({'resource = "res.east.clinic"': 'resource = "res.east.tax"'}, "inside the agreement"),
        ({'product_form = "model"': 'product_form = "dataset"'}, "form"),
        ({"days = 90": "days = 900"}, "term"),
        ({'node = "node-east"': 'node = "node-south"'}, "node-south"),
    ],
)
def test_a_request_that_breaks_a_rule_is_refused(desk, replace, word):
    with pytest.raises(NodeRefusedError, match=word):
        desk.submit(replace=replace)
    assert desk.registry.cases("request") == []


def test_a_request_in_somebody_else_s_name_is_refused(desk):
    payload = desk.request().model_copy(update={"operator": "someone"}).to_payload()
    with pytest.raises(NodeRefusedError, match="own name"):
        desk.client().submit_request(payload)


def test_an_application_unit_may_not_submit(desk):
    with pytest.raises(NodeRefusedError, match="not for unit-1"):
        desk.client(desk.unit).submit_request(desk.request().to_payload())


def test_a_second_request_for_an_open_scenario_is_refused(desk):
    desk.submit()
    with pytest.raises(NodeRefusedError, match="already has a request"):
        desk.submit(replace={'scenario = "clinic-risk"': 'scenario = "clinic-risk"\nrequest_id = "req-2"'})


def test_the_same_request_sent_again_is_the_same_case(desk):
    payload = desk.request().to_payload()
    first = desk.client().submit_request(payload)
    assert desk.client().submit_request(payload) == first
    assert len(desk.registry.cases("request")) == 1


@pytest.mark.parametrize("finding", ["reasonable", "compliant", "secure"])
def test_a_ruling_without_one_of_the_three_findings_is_refused(desk, finding):
    request_id = desk.submit()
    with pytest.raises(RequestRefusedError, match=finding):
        desk.rule(request_id, findings={**FINDINGS, finding: " "})


def test_the_operator_does_not_rule_on_its_own_request(desk):
    request_id = desk.submit()
    with pytest.raises(RequestRefusedError, match="other than the operator"):
        desk.rule(request_id, organisation="operator-ltd")


def test_a_cut_of_a_column_that_was_not_asked_for_is_refused(desk):
    request_id = desk.submit()
    with pytest.raises(RequestRefusedError, match="among the columns"):
        desk.rule(request_id, cuts=(Cut("res.east.clinic", "salary", "no"),))


def test_a_ruling_does_not_loosen_thresholds(desk):
    request_id = desk.submit()
    looser = desk.request().thresholds.model_copy(update={"cell_min": 4})
    with pytest.raises(RequestRefusedError, match="strict"):
        desk.rule(request_id, thresholds=looser)


def test_a_request_is_ruled_on_once(desk):
    request_id = desk.submit()
    desk.rule(request_id, approve=False)
    with pytest.raises(RequestRefusedError, match="starts from submitted"):
        desk.rule(request_id)
    with pytest.raises(NothingPendingError):
        desk.rulings.issue(request_id)


@pytest.mark.requirement("REQ-LEAST")
def test_columns_without_a_reason_are_cut_and_the_cut_is_recorded(desk):
    request_id = desk.submit()
    grant = desk.rule(request_id, cuts=(Cut("res.west.clinic", "age", "not needed here"),))
    columns = {party.node: party.resources[0].columns for party in grant.parties}
    assert columns == {
        "node-east": ("age", "target"),
        "node-west": ("target",),
        "node-north": ("age", "target"),
    }
    cuts = desk.client().request_status(request_id)["cuts"]
    assert {"resource": "res.west.clinic", "column": "age", "reason": "not needed here"} in cuts
    assert {"resource": "res.north.clinic", "column": "name", "reason": "no justification"} in cuts


def test_a_grant_is_not_handed_out_before_both_registrars_signed(desk):
    request_id = desk.submit()
    grant = desk.rule(request_id)
    desk.sign(grant, 0)
    with pytest.raises(NodeRefusedError, match="two registrars, got 1"):
        desk.client().fetch_grant(request_id)
    with pytest.raises(SignatureMissingError):
        desk.rulings.issue(request_id)


def test_one_registrar_under_two_file_names_counts_once(desk):
    request_id = desk.submit()
    grant = desk.rule(request_id)
    desk.sign(grant, 0)
    folder = desk.rulings.desk / grant.grant_id
    (folder / "registrar-2.dsse.json").write_bytes((folder / "registrar-1.dsse.json").read_bytes())
    with pytest.raises(SignatureMissingError):
        desk.rulings.issue(request_id)


@pytest.mark.requirement("REQ-LEAST")
def test_a_registrar_refuses_a_grant_that_is_wider_than_the_ruling(desk):
    request_id = desk.submit()
    grant = desk.rule(request_id)
    path = desk.rulings.desk / grant.grant_id / "statement.json"
    path.write_bytes(path.read_bytes().replace(b'["age","target"]', b'["age","name","target"]', 1))
    with pytest.raises(RequestRefusedError, match="exactly the grant"):
        desk.sign(grant, 0)


def test_a_stranger_s_signature_does_not_count(desk, tmp_path):
    request_id = desk.submit()
    grant = desk.rule(request_id)
    stranger = offices.person(tmp_path, "registrar-9", "data-bureau", "registrar")
    with pytest.raises(RequestRefusedError, match="registrar-9"):
        sign_grant(stranger, desk.rulings.desk / grant.grant_id)


def test_the_grant_carries_two_signatures_over_the_same_bytes(desk):
    request_id = desk.submit()
    grant = desk.rule(request_id)
    desk.sign(grant, 0, 1)
    envelopes = desk.client().fetch_grant(request_id)
    assert len({e.payload for e in envelopes}) == 1
    assert [open_grant(e, r.key.public) for e, r in zip(envelopes, desk.world.registrars, strict=True)] == [grant] * 2
    assert grant.request_sha256 == sha256_hex(desk.request().to_payload())
    assert desk.client().request_status(request_id)["state"] == "granted"
    assert desk.registry.verify_chain() > 5


def test_an_altered_query_is_refused_and_recorded(desk):
    desk.submit()
    parcel = bytearray(desk.bus.last)
    parcel[-5] ^= 1
    envelope, attachments = wire.unpack(desk.service.handle(bytes(parcel)))
    assert parse(Refusal, envelope.payload).code == "request.malformed"
    assert desk.registry.events()[-1].body["act"] == "query.refused"
    assert attachments == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"recipient": "agency-2"}, "request.recipient"),
        ({"kind": "request.drop"}, "request.kind_unknown"),
        ({"sender": "nobody"}, "trust.actor_unknown"),
        ({"sender": "unit-1"}, "request.signature"),
        ({"expires_at": NOW - timedelta(minutes=6), "issued_at": NOW - timedelta(minutes=9)}, "request.expired"),
        ({"issued_at": NOW + timedelta(seconds=301)}, "clock.skew"),
        ({"body": {}}, "request.malformed"),
    ],
)
def test_a_wrong_query_is_refused_with_its_code(desk, change, code):
    query = Query(
        query_id="q-1",
        kind="request.status",
        sender="operator",
        recipient="agency",
        body={"request_id": "r"},
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    ).model_copy(update=change)
    envelope, _ = wire.unpack(desk.service.handle(encode(query, desk.operator.key)))
    assert parse(Refusal, envelope.payload).code == code


def test_a_suspended_actor_is_refused(desk):
    item = StatusItem(subject_kind="actor", subject="operator", state="suspended", since=NOW, reason="inspection")
    desk.world.office.set_status(item)
    desk.world.publish()
    with pytest.raises(NodeRefusedError, match="actor_revoked"):
        desk.submit()


def test_the_same_query_gets_the_same_bytes(desk):
    desk.submit()
    assert desk.service.handle(desk.bus.last) == desk.service.handle(desk.bus.last)


def test_trust_data_is_fetched_and_verified_from_the_pin(desk):
    from factory.trust import write_trust_folder

    files = desk.client(desk.unit).fetch_trust()
    trust = write_trust_folder(desk.unit.trust_path, files, now=NOW)
    assert trust.actors.find("node-west", role="node", moment=NOW).organisation == "dept-west"


def test_a_request_file_with_a_missing_field_names_it():
    with pytest.raises(RequestFileError, match="purpose"):
        read_request(texts.request_text(replace={'purpose = "risk-screening"': ""}), operator="operator", now=NOW)
