"""Acceptance of stopping: what the agency decides counts at a real node on its next order, with nobody reachable.

The nodes are processes; the agency runs no service here at all, and the signed files reach the node by its
own officer's command, as they would on a stick.
"""

import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from factory.agency.errors import AdmissionRefusedError, RequestRefusedError
from factory.agency.office import open_office, sign_trust
from factory.agency.standing import Order, Standings
from factory.deletion import artefacts, delete_kept, remaining
from factory.identity import load_identity
from factory.law.files import write_law
from factory.pipelines.build import uses_of
from factory.registry.store import Act, Registry
from factory.trial import run
from factory.trial.world import World
from nodes.contract.grant import Grant
from nodes.contract.messages import Refusal
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import PAYLOAD_TYPE, grant_statement
from nodes.contract.tasks.match import TASK
from tests import trials

OPERATOR, NODE = "operator", "north"


@dataclass
class Live:
    """A relay and a node as processes, and the agency's home beside them."""

    world: World
    registry: Registry
    base: Grant
    number: int = 0
    ahead: timedelta = timedelta(0)

    @property
    def office(self):
        return open_office(self.world.folder / "agency", now=datetime.now(UTC) + self.ahead if self.ahead else None)

    @property
    def standings(self):
        return Standings(self.office, self.registry)

    def grant(self, **changes):
        """Have the registrars sign another grant; the node approves it."""
        self.number += 1
        grant = self.base.model_copy(update={"grant_id": f"g-{self.number}", **changes})
        payload = grant_statement(grant, agreement_name="trial", agreement_sha256=sha256_hex(b"trial"))
        names = ("registrar-1", "registrar-2")
        signed = [sign(load_identity(self.world.folder / name).key, PAYLOAD_TYPE, payload) for name in names]
        assert self.world.desk().offer_grant([NODE], signed) == {NODE: "approved"}
        act = Act("registrars", "registrar", "org-agency", "grant.issue")
        document = grant.model_dump(mode="json")
        self.registry.create(
            "grant", grant.grant_id, state="granted", document=document, act=act, now=datetime.now(UTC)
        )
        return grant, sha256_hex(payload)

    def order(self, granted):
        """Send an order and return the node's code, or an empty text when it opens the session."""
        grant, digest = granted
        session = self.world.session(grant, digest)
        recipe = self.world.recipe
        answer = session.open(TASK, recipe.parameters, uses_of(recipe))[NODE]
        if isinstance(answer, Refusal):
            return answer.code.value
        session.close()
        return ""

    def bring(self):
        """Have the registrars sign what was proposed, and the officer bring it to the node as files."""
        office = self.office
        for name in ("registrar-1", "registrar-2"):
            sign_trust(load_identity(self.world.folder / name), office.trust_folder, now=office.now())
        office.publish()
        home = self.world.folder / "nodes" / NODE
        words = ("-m", "nodes.cli", "trust", "update", str(office.trust_folder), "--home", str(home))
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    def refused(self, act):
        with pytest.raises(RequestRefusedError) as told:
            act()
        return told.value.reason


def live(folder, code):
    planned = run.plan(trials.EXAMPLES / "verification.toml", trials.persons(folder))
    with World(planned.recipe, planned.tables) as world:
        home = world.folder / "agency"
        (home / "law.toml").unlink(missing_ok=True)
        write_law(home, code, accept_proposed=True)
        base, _, _ = world.grant()
        with Registry.at(home / "registry.db") as registry:
            yield Live(world, registry, base)


@pytest.fixture(scope="module")
def national(tmp_path_factory):
    yield from live(tmp_path_factory.mktemp("national"), "NATIONAL")


def order_of(**changes):
    day = datetime.now(UTC).date() + timedelta(days=2)
    made = Order("misuse", ("停止超范围调用",), day, "agency", "王芳", "org-agency")
    return replace(made, **changes)


@pytest.mark.requirement("SUSP-CLOSE")
@pytest.mark.requirement("SUSP-RESTORE")
def test_a_closed_operator_runs_nothing_until_it_is_restored_by_decision(national):
    granted, short = national.grant(), national.grant(not_after=datetime.now(UTC) + timedelta(seconds=25))
    assert national.order(granted) == ""
    desk = national.standings
    for order, told in (
        (order_of(items=()), "standing.items"),
        (order_of(items=(" ",)), "standing.items"),
        (order_of(deadline=None), "standing.deadline"),
        (order_of(deadline=datetime.now(UTC).date() - timedelta(days=1)), "standing.deadline"),
        (order_of(ground=" "), "standing.ground"),
        (order_of(body="operator"), "standing.role"),
    ):
        assert national.refused(lambda o=order: desk.close(OPERATOR, o)) == told
    assert national.order(granted) == ""
    desk.close(OPERATOR, order_of())
    assert {case.state for case in national.registry.cases("grant")} == {"suspended"}
    national.bring()
    assert national.order(granted) == "trust.actor_revoked"
    until = datetime.now(UTC) + timedelta(days=100)
    restore = lambda **c: desk.restore(OPERATOR, order_of(**c), reason="验收通过", agreement_until=until)  # noqa: E731
    assert national.refused(restore) == "standing.not_accepted"
    assert national.refused(lambda: desk.accept(OPERATOR, finding=" ", official="王芳")) == "standing.not_accepted"
    desk.accept(OPERATOR, finding="逐项验收", official="王芳")
    assert national.order(granted) == "trust.actor_revoked"  # accepted is not restored
    assert national.refused(lambda: restore(body="operator")) == "standing.role"
    restore()
    national.bring()
    assert national.order(granted) == ""
    while datetime.now(UTC) < short[0].not_after:
        pass
    assert national.order(short) == "grant.expired"


@pytest.mark.requirement("INC-START")
@pytest.mark.requirement("INC-CONTAIN")
def test_one_command_opens_the_case_stops_what_is_affected_and_freezes_the_evidence(national):
    affected, unrelated = national.grant(), national.grant()
    desk = national.standings
    start = lambda **c: desk.start_incident(  # noqa: E731
        "inc-1", **{"what": "疑似泄露", "grants": [affected[0].grant_id], "plan": b"plan", "official": "李强", **c}
    )
    assert national.refused(lambda: start(plan=b"")) == "incident.plan"
    assert national.refused(lambda: start(what=" ")) == "incident.what"
    assert national.refused(lambda: start(grants=["g-none"])) == "incident.grant"
    assert national.order(affected) == ""
    start()
    national.bring()
    assert national.order(affected) == "grant.revoked"
    assert national.order(unrelated) == ""
    frozen = national.registry.artefacts("incident", "inc-1")["evidence"]
    assert national.registry.get("incident", "inc-1").document["evidence"] == sha256_hex(frozen)
    assert national.registry.get("grant", unrelated[0].grant_id).state == "granted"
    assert national.refused(lambda: desk.contain("inc-1", official="李强")) == "incident.measures"
    desk.measure("inc-1", "suspend", official="李强")
    assert national.refused(lambda: desk.contain("inc-1", official="李强")) == "incident.unverified"
    assert (
        national.refused(lambda: desk.verify_measure("inc-1", "suspend", b"", official="李强")) == "incident.unverified"
    )
    proof = national.order(affected).encode()
    desk.verify_measure("inc-1", "suspend", proof, official="李强")
    assert desk.contain("inc-1", official="李强").state == "contained"


@pytest.mark.requirement("SUSP-REVOKE")
@pytest.mark.requirement("EXIT-DELETE")
@pytest.mark.requirement("SEC-CYCLE")  # destruction without a record keeps the case open
def test_what_is_revoked_is_void_for_good_and_the_exit_ends_with_verified_deletion(national):
    granted = national.grant()
    assert national.order(granted) == ""
    national.standings.close(OPERATOR, order_of())
    revoke = lambda: national.standings.revoke(OPERATOR, order_of(), reason="逾期未整改")  # noqa: E731
    assert national.refused(revoke) == "standing.deadline"  # its day has not passed
    national.ahead = timedelta(days=3)
    revoke()
    national.bring()
    national.ahead = timedelta(0)
    assert national.order(granted) in {"grant.revoked", "trust.actor_revoked"}
    assert {case.state for case in national.registry.cases("grant")} == {"revoked"}
    with pytest.raises(AdmissionRefusedError):
        national.office.clear_status("grant", granted[0].grant_id)
    until = datetime.now(UTC) + timedelta(days=100)
    restore = lambda: national.standings.restore(OPERATOR, order_of(), reason="r", agreement_until=until)  # noqa: E731
    assert national.refused(restore) == "standing.state"
    desk = national.standings
    desk.exit(OPERATOR, order_of(ground="breach"), reason="协议终止")
    operator = load_identity(national.world.folder / OPERATOR)
    for number in range(3):
        path = operator.home / "products" / f"p-{number}" / "model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"kept %d" % number)
    (operator.home / "log").mkdir(exist_ok=True)
    (operator.home / "log" / "tiles").write_bytes(b"digests alone")
    told = frozenset(national.office.law().standing.exit_report_to)
    finish = lambda: desk.finish(OPERATOR, order_of(), services_settled=True, reported_to=told)  # noqa: E731
    assert national.refused(finish) == "standing.deletion"
    verify = lambda records, kept: desk.verify_deletion(OPERATOR, records, kept, official="李强")  # noqa: E731
    assert national.refused(lambda: verify([], remaining(operator.home))) == "standing.deletion"
    copies = [path.read_bytes() for path in artefacts(operator.home)]
    assert len(copies) >= 3
    records = delete_kept(operator, agreement="agr-trial", now=datetime.now(UTC))
    assert len(records) == len(copies)
    assert list(artefacts(operator.home)) == []
    (operator.home / "hidden.bin").write_bytes(copies[0])  # one was copied before
    assert national.refused(lambda: verify(records, remaining(operator.home))) == "standing.deletion"
    (operator.home / "hidden.bin").unlink()
    stranger = load_identity(national.world.folder / "registrar-1")
    forged = sign(stranger.key, PAYLOAD_TYPE, b"{}").to_bytes()
    assert national.refused(lambda: verify([forged], [])) == "standing.deletion"
    verify(records, remaining(operator.home))
    assert finish().state == "exited"
    assert (operator.home / "log" / "tiles").read_bytes() == b"digests alone"
    assert national.registry.verify_chain() > 0


@pytest.fixture
def jilin(tmp_path):
    yield from live(tmp_path, "JL")


@pytest.mark.requirement("SUSP-IMMEDIATE")
def test_a_prohibited_act_closes_without_grace_even_for_a_grant_the_node_holds(jilin):
    granted = jilin.grant()
    assert jilin.order(granted) == ""
    prohibited = order_of(ground="prohibited", is_prohibited=True, items=(), deadline=None)
    unsaid = replace(prohibited, ground=" ")
    assert jilin.refused(lambda: jilin.standings.close(OPERATOR, unsaid)) == "standing.ground"
    before = len(jilin.registry.events())
    jilin.standings.close(OPERATOR, prohibited)
    case = jilin.registry.get("standing", OPERATOR)
    assert (case.state, case.document["deletion_ordered"]) == ("closed", True)
    assert {grant.state for grant in jilin.registry.cases("grant")} == {"suspended"}
    moments = {event.body["at"] for event in jilin.registry.events()[before:]}
    assert len(moments) == 1  # one transaction
    jilin.bring()
    assert jilin.order(granted) == "trust.actor_revoked"
    until = datetime.now(UTC) + timedelta(days=9)
    restore = lambda: jilin.standings.restore(OPERATOR, order_of(), reason="r", agreement_until=until)  # noqa: E731
    assert jilin.refused(restore) == "standing.state"
