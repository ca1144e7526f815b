"""Status changes: two registrars, a reviewer to reinstate, one statement that is logged and compacted."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from factory.agency.changes import propose, publish_change, read_change, read_changes, sign_change
from factory.agency.errors import AdmissionRefusedError, NothingPendingError, SignatureMissingError
from factory.agency.trust_repository import published_targets
from factory.log.log import Log
from factory.trust import TrustInvalidError
from nodes.contract.errors import ContractError
from nodes.contract.messages import parse
from nodes.contract.trust import Status, StatusItem
from products.log import LogProof
from tests import offices
from tests.offices import NOW
from tests.unit.log.logs import make_home


@pytest.fixture
def world(tmp_path: Path) -> offices.World:
    world = offices.world(tmp_path)
    world.publish()
    world.add("reviewer-1", "university", "reviewer")
    world.add("operator", "company", "operator")
    world.publish()
    return world


def _propose(world: offices.World, state: str = "suspended", **more: str):
    return propose(
        world.registrars[0],
        world.office.home,
        kind=more.get("kind", "product"),
        subject=more.get("subject", "clinic-risk@1.0.0"),
        state=state,
        reason=more.get("reason", "complaint under examination"),
        now=world.office.now(),
    )


def _carry_out(world: offices.World, state: str, *, reviewer: bool = False) -> None:
    change = _propose(world, state)
    sign_change(world.registrars[1], world.office.home, change.id, now=world.office.now())
    if reviewer:
        sign_change(world.others["reviewer-1"], world.office.home, change.id, now=world.office.now())
    publish_change(world.office, change.id)


def _status(world: offices.World) -> Status:
    return parse(Status, published_targets(world.office.trust_folder)["status.json"])


def test_one_registrar_does_not_suffice(world: offices.World) -> None:
    change = _propose(world)
    with pytest.raises(SignatureMissingError, match="two registrars"):
        publish_change(world.office, change.id)
    assert _status(world).items == ()


def test_the_operator_has_no_say(world: offices.World) -> None:
    change = _propose(world)
    with pytest.raises(ContractError):
        sign_change(world.others["operator"], world.office.home, change.id, now=NOW)


def test_a_reviewer_has_no_say_in_a_suspension(world: offices.World) -> None:
    change = _propose(world)
    with pytest.raises(ContractError):
        sign_change(world.others["reviewer-1"], world.office.home, change.id, now=NOW)


def test_a_pending_list_that_changes_more_is_not_signed(world: offices.World) -> None:
    change = _propose(world)
    world.office.set_status(
        StatusItem(subject_kind="grant", subject="g-9", state="revoked", since=NOW, reason="smuggled in")
    )
    with pytest.raises(TrustInvalidError, match="follows from the change"):
        sign_change(world.registrars[1], world.office.home, change.id, now=NOW)


def test_a_pending_list_that_changes_another_target_is_not_signed(world: offices.World) -> None:
    change = _propose(world)
    world.office.set_target("release-policy.json", b'{"lax":true}')
    with pytest.raises(TrustInvalidError, match=r"status\.json alone"):
        sign_change(world.registrars[1], world.office.home, change.id, now=NOW)


def test_an_altered_statement_is_refused(world: offices.World) -> None:
    change = _propose(world)
    path = world.office.home / "changes" / change.id / "statement.json"
    path.write_bytes(path.read_bytes().replace(b"complaint", b"Complaint"))
    with pytest.raises(NothingPendingError, match="altered"):
        read_change(world.office.home, change.id)


def test_no_reason_no_change(world: offices.World) -> None:
    with pytest.raises(AdmissionRefusedError, match="reason"):
        _propose(world, reason=" ")
    with pytest.raises(AdmissionRefusedError, match="state"):
        _propose(world, "paused")


def test_a_second_proposal_waits(world: offices.World) -> None:
    _propose(world)
    with pytest.raises(TrustInvalidError, match="no other proposal"):
        _propose(world, subject="another")


def test_a_suspension_is_reinstated_only_with_a_reviewer(world: offices.World) -> None:
    _carry_out(world, "suspended")
    world.at(NOW + timedelta(days=1))
    change = _propose(world, "reinstated")
    sign_change(world.registrars[1], world.office.home, change.id, now=world.office.now())
    with pytest.raises(SignatureMissingError, match="reviewer"):
        publish_change(world.office, change.id)
    sign_change(world.others["reviewer-1"], world.office.home, change.id, now=world.office.now())
    publish_change(world.office, change.id)
    assert _status(world).items == ()
    assert [item.state for item in read_changes(world.office.home)] == ["suspended", "reinstated"]


def test_a_revocation_is_for_good(world: offices.World) -> None:
    _carry_out(world, "revoked")
    world.at(NOW + timedelta(days=1))
    for state in ("reinstated", "suspended"):
        with pytest.raises(AdmissionRefusedError, match="revoked"):
            _propose(world, state)


def test_a_suspension_is_logged_and_published(world: offices.World, tmp_path: Path) -> None:
    change = _propose(world)
    sign_change(world.registrars[1], world.office.home, change.id, now=NOW)
    home = make_home(tmp_path / "log")
    with Log.open(home, now=NOW) as log:
        publish_change(world.office, change.id, log=log)
    (item,) = _status(world).items
    assert (item.subject_kind, item.subject, item.state) == ("product", "clinic-risk@1.0.0", "suspended")
    folder = world.office.home / "changes" / change.id
    proofs = [LogProof.from_bytes((folder / f"registrar-{n}.tlog-proof").read_bytes()) for n in (1, 2)]
    assert [proof.index for proof in proofs] == [0, 1]


def test_a_product_is_suspended_with_three_commands(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from typer.testing import CliRunner

    from factory.agency.change_cli import app

    world = offices.world(tmp_path, now=datetime.now(UTC).replace(microsecond=0))
    world.publish()
    agency = str(world.office.home)

    def run(*arguments: str) -> dict:
        result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)

    product = ("propose", "product", "clinic-risk@1.0.0", "--state", "suspended", "--reason", "投诉核查")
    change = run(*product, "--home", str(tmp_path / "registrar-1"), "--agency", agency)["change"]
    run("sign", change, "--home", str(tmp_path / "registrar-2"), "--agency", agency)
    run("publish", change, "--home", agency)
    assert [item.state for item in _status(world).items] == ["suspended"]
