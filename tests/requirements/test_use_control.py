"""Acceptance of use control at a node: what an order may read, of whom, for what; and what raises an alert."""

import json
from datetime import timedelta

import pytest

from nodes import grants
from nodes.contract.catalogue import Column, Eligibility, SourceConsent
from nodes.contract.grant import Budget
from nodes.contract.messages import Condition, ResourceUse
from nodes.contract.signing import sign
from nodes.contract.statement import PAYLOAD_TYPE, SOURCE_CONSENT, statement
from nodes.errors import GrantError, RegisterError
from nodes.registers import add_basis, assess_anonymity, keep_source_consent, set_consents
from nodes.settings import settings_toml
from nodes.use_rules import Basis, UseFacts
from nodes.watch import node_alerts
from tests.node_world import NODE, NOW, World
from tests.town import run

RESOURCE = "res.east.clinic"


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.books.close()


def changed(world, **changes):
    """Put another entry into the node's catalogue, assessed."""
    world.entry = world.entry.model_copy(update=changes)
    (world.home / "catalogue/clinic.toml").write_text(world.entry.to_toml(), encoding="utf-8")
    world.assess()


def marked(world, *names, mark="personal"):
    columns = tuple(
        column.model_copy(update={"personal": mark}) if column.name in names else column
        for column in world.entry.columns
    )
    changed(world, columns=columns)


def use(*columns, row_filter=()):
    return (ResourceUse(resource=RESOURCE, version=1, columns=columns, row_filter=row_filter),)


def basis(name="pi-1", *, kind="consent", columns=("id_number", "age"), purpose="p-1", days=30):
    subject = "id_number" if kind == "consent" else ""
    return Basis(name, RESOURCE, purpose, columns, kind, "登记人口", "依据文件", subject, NOW + timedelta(days=days))


def subjects(world):
    lines = (world.home / "tables/clinic.csv").read_text("utf-8").splitlines()[1:]
    return [line.split(",")[1] for line in lines]


def personal_grant(world, *columns):
    party = world.grant().parties[0].model_copy(update={"resources": use(*columns)})
    parties = (party, *world.grant().parties[1:])
    grant = world.grant(parties=parties)
    digest, _, good = grants.check_offer(world.envelopes(grant), node=NODE, trust=world.trust.current(), now=world.now)
    from nodes.contract.signing import Envelope

    world.books.offer_grant(digest, grant.grant_id, Envelope.from_bytes(good[0]).payload, good, actor="operator")
    return digest


def approve(world, digest):
    facts = UseFacts(world.entry.extract, bases=world.books.bases(RESOURCE), anonymous=_anonymous(world))
    grants.approve(
        world.books, digest, key=world.keys.statement, node=NODE, catalogue={RESOURCE: world.entry}, reason="ok",
        uses={RESOURCE: facts},
    )  # fmt: skip


def _anonymous(world):
    from nodes.registers import anonymous

    return anonymous(world.books, world.books.bases(RESOURCE), world.books.resource(RESOURCE).commitment)


def rows_read(world, digest, *columns):
    """Open a session and return how many rows the task saw."""
    order = world.order(digest, resources=use(*columns))
    answer, _ = world.ask(order)
    assert answer.kind == "order.accepted", answer
    return len(world.agent.sessions.get(order.session_id).task.frame)


@pytest.mark.requirement("CONSENT")
def test_rows_of_persons_who_did_not_consent_do_not_exist_for_the_task(world):
    marked(world, "id_number", "age")
    add_basis(world.books, world.entry, basis(), now=NOW)
    persons = subjects(world)
    assert len(persons) == 40
    set_consents(world.books, basis(), persons[:30], key=world.keys.commitment, given=True)
    digest = personal_grant(world, "id_number", "age")
    approve(world, digest)
    assert rows_read(world, digest, "id_number", "age") == 30
    set_consents(world.books, basis(), persons[:1], key=world.keys.commitment, given=False)
    assert rows_read(world, digest, "id_number", "age") == 29
    set_consents(world.books, basis(), persons[1:25], key=world.keys.commitment, given=False)
    assert world.code(world.order(digest, resources=use("id_number", "age"))) == "resource.rows"
    told = json.dumps([entry.to_json() for entry in world.books.entries()])
    assert not any(person in told for person in persons)


@pytest.mark.requirement("CONSENT")
@pytest.mark.requirement("PC-DEID")
def test_anonymised_data_needs_a_passed_effect_test_on_the_table_as_it_is(world):
    marked(world, "age", "district")
    with pytest.raises(RegisterError, match="identifier"):
        add_basis(world.books, world.entry, basis(kind="anonymised"), now=NOW)
    rare = basis("pi-rare", kind="anonymised", columns=("age", "district"))
    common = basis("pi-common", kind="anonymised", columns=("district",))
    for one in (rare, common):
        add_basis(world.books, world.entry, one, now=NOW)
    digest = personal_grant(world, "district", "score")
    with pytest.raises(GrantError, match="personal information"):
        approve(world, digest)  # nothing was measured yet
    results = {
        one.id: assess_anonymity(world.books, world.entry, one, home=world.home, commitment_key=world.keys.commitment)[
            1
        ]
        for one in (rare, common)
    }
    assert results == {"pi-rare": False, "pi-common": True}
    approve(world, digest)
    assert rows_read(world, digest, "district", "score") == 40
    assert world.code(world.order(digest, resources=use("district", "age"))) == "grant.column"
    table = world.home / "tables/clinic.csv"
    table.write_text(table.read_text("utf-8") + "甲,110101199003079999,孤村,20,1.0\n", "utf-8")
    world.assess()
    assert world.code(world.order(digest, resources=use("district", "score"))) == "personal.basis"


@pytest.mark.requirement("PI-MECH")
def test_personal_columns_without_a_line_in_the_register_cannot_be_granted(world):
    marked(world, "age")
    digest = personal_grant(world, "age", "score")
    with pytest.raises(GrantError, match="register"):
        approve(world, digest)
    assert world.books.grant(digest).state == "pending"
    home = str(world.home)
    world.settings.home.joinpath("node.toml").write_text(settings_toml(world.settings), encoding="utf-8")
    words = ("personal", "register", RESOURCE, "--id", "pi-1", "--purpose", "p-1", "--kind", "legal", "--column", "age")
    from nodes import cli

    assert run(cli.app, *words, "--group", "", "--reference", "x", "--home", home).exit_code == 1
    done = run(cli.app, *words, "--group", "患者", "--reference", "依据文件", "--home", home, "--json").ok()
    assert (done["group"], done["purpose"], done["columns"]) == ("患者", "p-1", ["age"])
    assert [row["id"] for row in run(cli.app, "personal", "list", "--home", home, "--json").ok()] == ["pi-1"]
    approve(world, digest)
    assert world.books.grant(digest).state == "approved"


@pytest.mark.requirement("PI-PROTECT")
@pytest.mark.parametrize("mark", ["personal", "sensitive"])
def test_a_field_marked_personal_is_not_used_without_a_basis_and_its_expiry_ends_the_use(world, mark):
    digest = world.install_grant()
    assert world.code(world.order(digest)) == ""
    marked(world, "age", mark=mark)
    assert world.code(world.order(digest)) == "personal.basis"
    assert world.code(world.order(digest, resources=use("score"))) == ""  # minimum use: the field is left out
    add_basis(world.books, world.entry, basis(kind="legal", columns=("age",), days=1), now=NOW)
    assert world.code(world.order(digest)) == ""
    world.now = NOW + timedelta(days=2)
    assert world.code(world.order(digest)) == "personal.basis"


@pytest.mark.requirement("PI-SCOPE")
def test_personal_fields_are_used_for_the_granted_and_registered_purpose_alone(world):
    marked(world, "age")
    add_basis(world.books, world.entry, basis(kind="legal", columns=("age",), purpose="p-2"), now=NOW)
    digest = personal_grant(world, "age", "score")
    with pytest.raises(GrantError):
        approve(world, digest)  # registered for another purpose than the grant's
    add_basis(world.books, world.entry, basis("pi-2", kind="legal", columns=("age",)), now=NOW)
    approve(world, digest)
    assert world.code(world.order(digest, purpose="p-2", resources=use("age"))) == "grant.purpose"
    assert world.code(world.order(digest, resources=use("age"))) == ""


def consent_by(world, person, **changes):
    said = SourceConsent(
        resource=RESOURCE, owner="org.east", provider="org.west", state="given", stated_at=NOW,
        not_after=NOW + timedelta(days=5),
    ).model_copy(update=changes)  # fmt: skip
    payload = statement(SOURCE_CONSENT, [(f"resource/{RESOURCE}", "0" * 64)], said.model_dump(mode="json"))
    return sign(world.people[person].key, PAYLOAD_TYPE, payload).to_bytes()


@pytest.mark.requirement("ELIG-SRCCONSENT")
def test_a_revoked_or_expired_consent_of_the_provider_stops_the_next_run(world):
    digest = world.install_grant()
    changed(world, origin="shared", provider="org.west")
    assert world.code(world.order(digest)) == "resource.consent"
    trust = world.trust.current()
    for forged in (consent_by(world, "node-north"), consent_by(world, NODE)):
        with pytest.raises(RegisterError, match=r"org\.west"):
            keep_source_consent(world.books, forged, trust=trust)
    keep_source_consent(world.books, consent_by(world, "node-west"), trust=trust)
    assert world.code(world.order(digest)) == ""
    world.now = NOW + timedelta(days=5)
    assert world.code(world.order(digest)) == "resource.consent"
    world.now = NOW
    revoked = consent_by(world, "node-west", state="revoked", stated_at=NOW + timedelta(seconds=1))
    keep_source_consent(world.books, revoked, trust=trust)
    assert world.code(world.order(digest)) == "resource.consent"


@pytest.mark.requirement("CLS-GRADE")
@pytest.mark.requirement("ELIG-PROHIBIT")
@pytest.mark.requirement("CAT-ATTR")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"grade": "core"}, "resource.grade"),
        ({"grade": "important"}, "resource.grade"),  # the stub task is no private computing
        ({"operation_attribute": ""}, "resource.attribute"),
        ({"eligibility": None}, "resource.attribute"),
        (
            {"eligibility": Eligibility(checked_by="o", checked_on="2026-01-05", found=("trade_secret",))},
            "resource.attribute",
        ),
        ({"secrecy": "secret"}, "resource.attribute"),
    ],
)
def test_what_the_entry_says_binds_the_node(world, change, code):
    digest = world.install_grant()
    assert world.code(world.order(digest)) == ""
    changed(world, **change)
    assert world.code(world.order(digest)) == code


@pytest.mark.requirement("CLS-GRADE")
def test_an_ungraded_column_is_not_read(world):
    digest = world.install_grant()
    columns = (*world.entry.columns[:4], Column(name="score", type="number"))
    changed(world, columns=columns)
    assert world.code(world.order(digest)) == "resource.grade"
    assert world.code(world.order(digest, resources=use("age"))) == ""


@pytest.mark.requirement("SUP-UPDATE")
def test_a_table_older_than_its_declared_frequency_is_refused_until_it_is_refreshed(world):
    digest = world.install_grant()
    world.assess(fresh_until=NOW - timedelta(days=2))
    assert world.code(world.order(digest)) == "resource.stale"
    described, _ = world.ask(world.query("node.describe"))
    assert described.body["resources"][0]["state"] == "stale"
    world.assess(fresh_until=NOW + timedelta(days=1))
    assert world.code(world.order(digest)) == ""
    described, _ = world.ask(world.query("node.describe"))
    assert described.body["resources"][0]["state"] == "active"


@pytest.mark.requirement("USE-SCOPE")
@pytest.mark.parametrize(
    ("change", "days", "code"),
    [
        ({"purpose": "p-2"}, 0, "grant.purpose"),
        ({"resources": use("name")}, 0, "grant.column"),
        (
            {"resources": use("age", row_filter=(Condition(column="age", operator="lt", values=(30,)),))},
            0,
            "grant.row_filter",
        ),
        ({}, 10, "grant.expired"),
    ],
)
def test_a_run_outside_purpose_data_or_term_is_refused_and_raises_an_alert(world, change, days, code):
    digest = world.install_grant()
    assert world.code(world.order(digest)) == ""
    assert node_alerts(world.books, now=world.now) == []
    world.now = NOW + timedelta(days=days)
    if days:
        world.trust.update(world.publish(timestamp_days=30), now=NOW)
    assert world.code(world.order(digest, **change)) == code
    alert = node_alerts(world.books, now=world.now)[0]
    assert (alert.rule, alert.grade, alert.actor, alert.state) == ("out-of-scope", "major", "operator", "open")


@pytest.mark.requirement("USE-ABUSE")
def test_a_spent_budget_or_another_selection_of_rows_is_refused_and_raises_an_alert(world):
    digest = world.install_grant(world.grant(uses_max=10))
    for _ in range(3):
        assert world.code(world.order(digest)) == ""
    assert node_alerts(world.books, now=world.now) == []
    assert world.code(world.order(digest)) == "grant.budget"
    assert world.code(world.order(digest)) == "grant.budget"
    alerts = {alert.rule: alert for alert in node_alerts(world.books, now=world.now)}
    assert len(alerts["over-use"].refs) == 2


@pytest.mark.requirement("USE-ABUSE")
def test_probing_the_same_persons_with_another_selection_is_refused_and_raises_an_alert(world):
    tasks = ("stub.sum", "stub.other")
    digest = world.install_grant(world.grant(tasks=tasks))
    assert world.code(world.order(digest, task="stub.other", parameters={"base": 1})) == ""
    assert world.code(world.order(digest, task="stub.other", parameters={"base": 2})) == "grant.exhausted"
    assert [alert.rule for alert in node_alerts(world.books, now=world.now)] == ["over-use"]


@pytest.mark.requirement("USE-ABUSE")
def test_far_more_uses_than_on_the_days_before_stand_out(world):
    digest = world.install_grant(world.grant(uses_max=100, budget=Budget(unit="session", total=100)))
    for day in range(5):
        world.now = NOW + timedelta(days=day)
        assert world.code(world.order(digest)) == ""
    assert node_alerts(world.books, now=world.now) == []
    for _ in range(10):
        assert world.code(world.order(digest)) == ""
    assert [(alert.rule, alert.grade) for alert in node_alerts(world.books, now=world.now)] == [("volume", "minor")]


@pytest.mark.requirement("MON-ALERT")
def test_three_refusals_in_a_minute_open_an_alert_that_escalates_until_it_is_handled(world):
    from nodes import cli

    world.settings.home.joinpath("node.toml").write_text(settings_toml(world.settings), encoding="utf-8")
    for _ in range(4):
        world.ask(world.query("node.describe"))  # normal load
    for number in range(3):
        world.code(world.query("node.unknown"))
        if number < 2:
            assert node_alerts(world.books, now=world.now) == []
    alert = node_alerts(world.books, now=world.now)[0]
    assert (alert.rule, alert.grade, alert.owner, len(alert.refs)) == ("refusals", "major", "security-officer", 3)
    assert alert.due_at == NOW + timedelta(hours=24)
    late = node_alerts(world.books, now=alert.due_at + timedelta(seconds=1))[0]
    assert (late.state, late.owner) == ("escalated", "agency")
    home = str(world.home)
    listed = run(cli.app, "alerts", "list", "--home", home, "--json")
    assert listed.exit_code == 1  # the machine's clock is long past the limit
    assert run(cli.app, "alerts", "handle", alert.id, "--home", home).exit_code == 1  # no outcome
    assert run(cli.app, "alerts", "handle", "A-none", "--outcome", "x", "--home", home).exit_code == 1
    run(cli.app, "alerts", "handle", alert.id, "--outcome", "误报，已核实", "--home", home, "--json").ok()
    assert run(cli.app, "alerts", "list", "--home", home, "--json").ok()[0]["state"] == "handled"


@pytest.mark.requirement("MON-ALERT")
def test_refusals_that_are_far_apart_raise_nothing(world):
    for number in range(6):
        world.now = NOW + timedelta(seconds=61 * number)
        world.code(world.query("node.unknown"))
    assert node_alerts(world.books, now=world.now) == []
