"""Acceptance of the catalogue, by the commands of departments and data administration on real homes."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from factory.agency.catalogue import Catalogue
from factory.agency.errors import RequestRefusedError
from factory.agency.rulings import Rulings
from factory.lifecycle.resource import grade_refusal
from factory.registry.request import read_agreement
from factory.registry.store import Act
from nodes.catalogue_entries import parse_entry
from nodes.contract.grant import Thresholds
from tests import request_texts
from tests.town import Town, entry_document, parcel_of

LIMITS = Thresholds(rows_min=30, contributors_min=3, cell_min=5, round_base=5, quality_score_min=8000)
STANDARD = """
version = "v2"
title = "编制规范第二版"
required = ["owner", "class", "grade", "update_frequency_days", "operation_attribute"]
"""


@pytest.fixture
def town(tmp_path):
    made = Town(tmp_path)
    yield made
    made.close()


def refused(town, **changes):
    """Return the code with which the agency refuses a request."""
    with pytest.raises(RequestRefusedError) as told:
        town.request(**changes)
    return told.value.reason


@pytest.mark.requirement("CAT-UNIFIED")
def test_a_dataset_is_addressed_by_its_catalogue_id_and_version_alone(town):
    town.catalogued("west", "north")
    town.lay("east")  # on the node, but not catalogued
    town.agree()
    assert refused(town) == "catalogue.miss"
    assert town.registry.cases("request") == []
    assert town.agency("catalogue", "take", town.submit("east")).exit_code == 0
    assert refused(town) == "catalogue.miss"  # submitted, not confirmed
    assert town.agency("catalogue", "confirm", "--official", "王芳").exit_code == 0
    assert refused(town, replace={"version = 1": "version = 2"}) == "catalogue.miss"
    assert town.request().state == "submitted"


@pytest.mark.requirement("CAT-SCHEMA")
def test_an_entry_is_checked_against_the_standard_in_force_and_a_missing_field_is_named(town, tmp_path):
    (tmp_path / "v2.toml").write_text(STANDARD, "utf-8")
    town.agency("catalogue", "standard", tmp_path / "v2.toml", "--official", "省局").ok()
    extract = parse_entry(entry_document("res.east.clinic", "dept-east"), source="t").public_extract()
    lacking = {name: value for name, value in extract.items() if name != "update_frequency_days"}
    path = tmp_path / "lacking.entry"
    path.write_bytes(parcel_of(lacking, town.departments["east"].key))
    done = town.agency("catalogue", "take", path)
    assert done.exit_code == 1
    assert "update_frequency_days" in done.said
    assert town.registry.cases("resource") == []
    taken = town.agency("catalogue", "take", town.offer("east")).ok()
    assert taken[0]["standard_version"] == "v2"
    assert town.registry.get("resource", "res.east.clinic").document["standard_version"] == "v2"


@pytest.mark.requirement("CAT-COMPILE")
def test_a_department_writes_its_own_entries_and_nobody_else_s(town, tmp_path):
    extract = parse_entry(entry_document("res.west.clinic", "dept-west"), source="t").public_extract()
    path = tmp_path / "foreign.entry"
    path.write_bytes(parcel_of(extract, town.departments["east"].key))
    done = town.agency("catalogue", "take", path)
    assert done.error.reason == "resource.owner"
    event = town.registry.events()[-1].body
    assert (event["act"], event["organisation"]) == ("resource.submit.refused", "dept-east")
    path.write_bytes(parcel_of(extract, town.operator.key))
    assert town.agency("catalogue", "take", path).error.reason == "resource.signer"
    assert town.registry.cases("resource") == []
    town.agency("catalogue", "take", town.offer("west")).ok()
    events = [event.body for event in town.registry.events(kind="resource", case_id="res.west.clinic")]
    assert (events[-1]["act"], events[-1]["organisation"]) == ("resource.review", "dept-west")


@pytest.mark.requirement("CAT-LEVEL")
def test_the_level_s_catalogue_holds_every_submitted_entry_once(town):
    town.lay("west")  # still a draft
    assert town.agency("catalogue", "list").ok() == []
    for name in ("east", "north"):
        town.agency("catalogue", "take", town.offer(name)).ok()
    again = town.agency("catalogue", "take", town.submit("east"))
    assert again.error.reason == "resource.version"
    rows = town.agency("catalogue", "list", "--level", "city").ok()
    assert [(row["id"], row["owner"], row["level"]) for row in rows] == [
        ("res.east.clinic", "dept-east", "city"),
        ("res.north.clinic", "dept-north", "city"),
    ]
    assert town.agency("catalogue", "list", "--level", "province").ok() == []


@pytest.mark.requirement("CAT-DYNAMIC")
def test_a_change_is_a_new_version_that_flags_what_depends_on_it(town):
    town.catalogued()
    town.agree()
    request = town.request()
    grant = town.rule(request.id)
    act = Act("operator", "operator", "operator-ltd", "registration.apply")
    product = {"application": {"resources": [{"resource": "res.east.clinic"}]}, "code": "", "valid_until": ""}
    town.registry.create("registration", "reg-1", state="coded", document=product, act=act, now=town.now())
    town.registry.create(
        "grant", grant.grant_id, state="granted", document=grant.model_dump(mode="json"), act=act, now=town.now()
    )
    columns = entry_document("", "")["columns"][1:]  # the owner takes a field back
    town.agency("catalogue", "take", town.offer("east", version=2, columns=columns)).ok()
    town.agency("catalogue", "confirm", "--official", "王芳").ok()
    versions = {row["id"]: row["version"] for row in town.agency("catalogue", "list").ok()}
    assert versions == {"res.east.clinic": 2, "res.north.clinic": 1, "res.west.clinic": 1}
    flagged = {row["id"]: row["flags"] for row in town.agency("catalogue", "dependants", "res.east.clinic").ok()}
    assert set(flagged) == {"agr-2026-1", grant.grant_id, "reg-1"}
    assert all("version 2" in flags[0] for flags in flagged.values())
    assert all("res.west.clinic" not in flag for flags in flagged.values() for flag in flags)
    other = {'scenario = "clinic-risk"': 'scenario = "clinic-two"\nrequest_id = "req-2"'}
    assert refused(town, replace=other) == "catalogue.miss"
    done = town.agency("catalogue", "withdraw", "res.west.clinic", "--official", "王芳", "--reason", "停止采集")
    assert {row["kind"] for row in done.ok()["flagged"]} == {"agreement", "grant"}
    town.publish()
    trust = town.node("west", "trust", "show").ok()
    assert "res.west.clinic" in json.dumps(trust)


@pytest.mark.requirement("CAT-ATTR")
@pytest.mark.requirement("CAT-REFUSE")
@pytest.mark.parametrize("attribute", ["", "prohibited"])
def test_a_resource_that_is_not_marked_in_scope_cannot_be_requested(town, attribute):
    town.catalogued("west", "north")
    town.agree()
    reasons = {"attribute_reason": "涉及执法", "legal_basis": "某条例第三条"} if attribute else {}
    path = town.offer("east", operation_attribute=attribute, **reasons)
    taken = town.agency("catalogue", "take", path)
    assert (taken.exit_code == 0) == bool(attribute)  # the standard asks for the attribute
    if attribute:
        assert town.agency("catalogue", "confirm", "--official", "王芳").ok()[0]["state"] == "excluded"
    assert refused(town) in {"resource.attribute", "catalogue.miss"}
    town.agency("catalogue", "take", town.offer("east", version=2, operation_attribute="open")).ok()
    town.agency("catalogue", "confirm", "--official", "王芳").ok()
    assert town.request(
        replace={'resource = "res.east.clinic"\nversion = 1': 'resource = "res.east.clinic"\nversion = 2'}
    )


def test_an_exclusion_without_reason_and_legal_basis_is_no_entry(town):
    assert "attribute" not in town.node("east", "catalogue").said
    with pytest.raises(Exception, match="entry"):
        town.lay("east", operation_attribute="prohibited", attribute_reason="涉及执法")


def test_the_public_extract_has_no_address_no_sample_and_no_check(town):
    town.catalogued()
    public = json.dumps(town.agency("catalogue", "public").ok(), ensure_ascii=False)
    assert len(json.loads(public)) == 3
    for word in ("tables/clinic.csv", "storage", "office", "人0001", "checked_by", str(town.folder)):
        assert word not in public


@pytest.mark.requirement("ELIG-PROHIBIT")
def test_a_prohibited_circumstance_or_a_missing_check_stops_agreement_and_grant(town):
    town.catalogued("west")
    flagged = {"checked_by": "保密办", "checked_on": "2026-01-05", "found": ["national_security"]}
    town.agency("catalogue", "take", town.offer("east", eligibility=flagged)).ok()
    town.agency("catalogue", "take", town.offer("north", eligibility=None)).ok()
    for name, word in (("east", "national_security"), ("north", "check")):
        done = town.agency("catalogue", "confirm", f"res.{name}.clinic", "--official", "王芳")
        assert done.exit_code == 1
        assert word in done.said
        assert "ELIG-PROHIBIT" in done.said
    with pytest.raises(RequestRefusedError, match="national_security"):
        town.agree()
    alone = request_texts.AGREEMENT.replace('"res.east.clinic", ', "").replace(', "res.north.clinic"', "")
    rulings = Rulings(town.world.office, town.registry)
    with pytest.raises(RequestRefusedError, match="check"):
        rulings.add_agreement(read_agreement(alone.replace("west", "north")), official="o")
    assert rulings.add_agreement(read_agreement(alone), official="o").state == "in_force"


@pytest.mark.requirement("ELIG-SECRET")
@pytest.mark.parametrize("mark", ["confidential", "secret", "top_secret"])
def test_a_state_secret_is_refused_at_binding_and_at_entry_without_a_trace_of_its_content(town, tmp_path, mark):
    path = tmp_path / "secret.toml"
    entry = parse_entry(
        entry_document("res.east.hidden", "dept-east", secrecy=mark, name_zh="隐秘工程名单"), source="t"
    )
    path.write_text(entry.to_toml(), "utf-8")
    done = town.node("east", "bind", path)
    assert done.error.code == "node.state_secret"
    assert town.node("east", "catalogue").ok() == []
    offered = tmp_path / "secret.entry"
    offered.write_bytes(parcel_of(entry.public_extract(), town.departments["east"].key))
    done = town.agency("catalogue", "take", offered)
    assert done.error.reason == "resource.secret"
    assert town.registry.cases("resource") == []
    ledger = json.dumps(town.node("east", "ledger", "list").ok(), ensure_ascii=False)
    events = json.dumps([event.body for event in town.registry.events()], ensure_ascii=False)
    assert "resource.refused" in ledger
    assert "resource.submit.refused" in events
    for text in ("隐秘工程名单", "res.east.hidden", "target"):
        assert text not in ledger + events + done.said


@pytest.mark.requirement("CLS-PREREVIEW")
def test_only_a_version_that_its_department_reviewed_is_offered(town, tmp_path):
    town.lay("east")
    done = town.node("east", "entry", "submit", "--out", tmp_path)
    assert done.exit_code == 1
    assert "review" in done.said
    file = town.submit("east")
    town.agency("catalogue", "take", file).ok()
    entry = town.lay("east", version=2, name_zh="门诊登记（新）")
    assert town.node("east", "entry", "submit", "--out", tmp_path).exit_code == 1  # the old review is of version 1
    bare = tmp_path / "bare.entry"
    for parcel in (
        parcel_of(entry.public_extract(), town.departments["east"].key, review=False),
        _with_review_of(file, entry.public_extract(), town.departments["east"].key),
    ):
        bare.write_bytes(parcel)
        assert town.agency("catalogue", "take", bare).error.reason == "resource.review"
    assert town.agency("catalogue", "take", town.submit("east")).ok()[0]["version"] == 2


def _with_review_of(file, value, key):
    from nodes.contract import wire

    _, old = wire.unpack(file.read_bytes())
    envelope, _ = wire.unpack(parcel_of(value, key))
    return wire.pack(envelope, old)


@pytest.mark.requirement("ELIG-SRCCONSENT")
def test_shared_data_needs_the_consent_of_its_original_department(town, tmp_path):
    shared = {"origin": "shared", "provider": "dept-west"}
    town.catalogued("west", "north")
    town.agency("catalogue", "take", town.offer("east", **shared)).ok()
    refused_ = town.agency("catalogue", "confirm", "res.east.clinic", "--official", "王芳")
    assert refused_.error.reason == "resource.source_consent"

    def consent(name, *words):
        done = town.node(name, "entry", "consent", "res.east.clinic", "--owner", "dept-east", "--out", tmp_path, *words)
        return done.ok()["file"]

    own = consent("east")  # consent by who holds it is none
    town.agency("catalogue", "consent", own)
    assert town.agency("catalogue", "confirm", "res.east.clinic", "--official", "王芳").exit_code == 1
    given = consent("west")
    town.agency("catalogue", "consent", given).ok()
    town.agency("catalogue", "confirm", "res.east.clinic", "--official", "王芳").ok()
    town.agree()
    request = town.request()
    assert town.node("east", "entry", "take-consent", given).exit_code == 0
    revoked = consent("west", "--revoke")
    town.agency("catalogue", "consent", revoked).ok()
    with pytest.raises(RequestRefusedError) as told:
        town.rule(request.id)
    assert told.value.reason == "resource.source_consent"
    assert town.agency("catalogue", "dependants", "res.east.clinic").ok()[0]["flags"]


@pytest.mark.requirement("CLS-GRADE")
@pytest.mark.requirement("PC-TECH")
def test_the_highest_grade_decides_and_an_ungraded_or_core_field_stops(town):
    lower = LIMITS.model_copy(update={"rows_min": 5})
    assert grade_refusal(["general"], tasks=["plain.join"], limits=lower) is None
    assert "privacy computing" in grade_refusal(["general", "important"], tasks=["plain.join"], limits=LIMITS).message
    assert "rows_min" in grade_refusal(["general", "important"], tasks=["linear.secagg"], limits=lower).message
    assert grade_refusal(["general", "important"], tasks=["linear.secagg"], limits=LIMITS) is None
    town.catalogued("west")
    town.agency("catalogue", "take", town.offer("east", grade="important")).ok()
    core = [{**column, "grade": "core"} for column in entry_document("", "")["columns"]]
    town.agency("catalogue", "take", town.offer("north", columns=core)).ok()
    town.agency("catalogue", "confirm", "--official", "王芳").ok()
    town.agree()
    assert refused(town) == "catalogue.grade"  # the core field of one stops all
    lowered = {"rows_min = 30": "rows_min = 5"}
    assert refused(town, districts=("east", "west"), replace=lowered) == "catalogue.grade"
    assert town.request(districts=("east", "west")).state == "submitted"
    ungraded = [{**column, "grade": ""} for column in entry_document("", "")["columns"]]
    value = parse_entry(entry_document("res.west.clinic", "dept-west", version=2, columns=ungraded), source="t")
    desk = Catalogue(town.world.office, town.registry)
    with pytest.raises(RequestRefusedError, match="grade"):
        desk.take(parcel_of(value.public_extract(), town.departments["west"].key))


@pytest.mark.requirement("SUP-BIND")
def test_entries_without_a_live_dataset_are_listed_and_a_foreign_schema_is_refused(town):
    town.catalogued()
    report = town.agency("catalogue", "supply")
    assert report.exit_code == 1
    assert len(json.loads(report.output)) == 3
    for name in ("east", "west"):
        town.agency("catalogue", "bind", town.folder / "offered" / name / f"res.{name}.clinic.binding").ok()
    waiting = json.loads(town.agency("catalogue", "supply").output)
    assert [(row["resource"], row["age_days"]) for row in waiting] == [("res.north.clinic", 0)]
    other = town.lay("north", columns=entry_document("", "")["columns"][:2], version=2)
    assert (
        other.schema_sha256
        != Catalogue(town.world.office, town.registry).listed()["res.north.clinic"].entry.schema_sha256
    )
    town.submit("north")
    done = town.agency("catalogue", "bind", town.folder / "offered" / "north" / "res.north.clinic.binding")
    assert done.error.reason == "resource.schema"
    assert town.registry.get("resource", "res.north.clinic").state == "in_scope"
    west = (town.folder / "offered" / "west" / "res.west.clinic.binding").read_bytes()
    assert b"tables/clinic.csv" not in west
    assert datetime.now(UTC) - timedelta(days=1) < datetime.now(UTC)
