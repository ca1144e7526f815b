"""Registration after its first code: clocks in working days, renewal window, correction, cancellation."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from factory.law.files import proposed
from factory.lifecycle.machine import Permit, Refusal
from factory.lifecycle.registration import Application, RegistrationFacts, clocks, move, renewal_from, valid_until

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
END = NOW + timedelta(days=59)
_HEX = "ab" * 32


def application() -> Application:
    return Application.model_validate(
        {
            "application_id": "reg-p-1",
            "registrant": {"actor": "operator", "organisation": "org", "name_zh": "甲", "name_en": "A"},
            "lawful_source": {"basis": "b", "agreement_id": "a-1", "grant_id": "g-1", "grant_sha256": _HEX},
            "resources": (
                {
                    "resource": "res.a",
                    "version": 1,
                    "holder": "node-a",
                    "statement_sha256": _HEX,
                    "registration_platform": "cn",
                    "registration_code": "R-1",
                    "registration_valid_until": "2027-03-02T08:00:00Z",
                    "quality_score_x100": 9000,
                },
            ),
            "evidence": {
                "log_origin": "log.op/2026",
                "stored_at": "2026-03-01T08:00:00Z",
                "entries": ({"name": "run-node-a.node-a", "sha256": _HEX, "log_index": 0},),
            },
            "product": {
                "id": "p",
                "product_version": "1",
                "form": "model",
                "name_zh": "甲",
                "name_en": "A",
                "summary": "s",
                "files": ({"path": "data/product/m", "sha256": _HEX},),
            },
            "scenario": {"scenario": "sc", "title": "t", "purpose": "p", "request_sha256": _HEX},
            "risk": {
                "prerelease_sha256": _HEX,
                "reviews_sha256": (_HEX, _HEX),
                "tests": ("t",),
                "leaves_country": False,
            },
            "applied_at": "2026-03-02T08:00:00Z",
        }
    )


NATIONAL = proposed("NATIONAL")


def facts() -> RegistrationFacts:
    return RegistrationFacts(
        application=application(),
        sender="operator",
        now=NOW,
        profile=NATIONAL,
        registered=frozenset({"p@1"}),
        grant_sha256=_HEX,
        granted={"node-a": frozenset({"res.a"}), "node-b": frozenset({"res.b"})},
        agreement_until=NOW + timedelta(days=900),
        reason="because",
        valid_until=END,
        field="product.summary",
    )


@pytest.mark.parametrize(
    ("act", "state", "role", "change", "code"),
    [
        ("ask_renewal", "coded", "operator", {"valid_until": NOW + timedelta(days=61)}, "registration.too_early"),
        ("ask_renewal", "coded", "operator", {"valid_until": NOW}, "registration.ended"),
        ("ask_renewal", "coded", "operator", {"sender": "another"}, "registration.registrant"),
        ("ask_renewal", "coded", "operator", {"agreement_until": NOW}, "registration.agreement"),
        ("ask_renewal", "coded", "operator", {"grant_sha256": None}, "registration.grant"),
        ("ask_renewal", "coded", "operator", {"agreement_until": END}, "registration.no_extension"),
        ("renewal", "renewal_asked", "agency", {"agreement_until": END}, "registration.no_extension"),
        ("ask_correction", "coded", "operator", {"field": "product.files"}, "registration.correction"),
        ("ask_correction", "coded", "operator", {"reason": " "}, "registration.reason"),
        ("ask_cancellation", "coded", "operator", {"reason": ""}, "registration.reason"),
        ("renewal", "renewal_asked", "agency", {"reason": ""}, "registration.reason"),
        ("deny", "renewal_asked", "agency", {"reason": ""}, "registration.reason"),
    ],
)
def test_a_gap_is_refused_with_its_code(act: str, state: str, role: str, change: dict, code: str) -> None:
    answer = move(act, state=state, role=role, facts=replace(facts(), **change))
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert answer.clauses


@pytest.mark.parametrize(
    ("kind", "registered", "code"),
    [
        ("first", {"p@1"}, "registration.twice"),
        ("first", {"p@0"}, "registration.not_first"),
        ("change", set(), "registration.no_earlier"),
        ("change", {"q@1"}, "registration.no_earlier"),
        ("change", {"p@0", "p@1"}, "registration.twice"),
    ],
)
def test_the_kind_of_an_application_fits_what_is_registered(kind: str, registered: set[str], code: str) -> None:
    changed = replace(
        facts(), application=application().model_copy(update={"kind": kind}), registered=frozenset(registered)
    )
    answer = move("apply", state="none", role="operator", facts=changed)
    assert isinstance(answer, Refusal)
    assert answer.code == code


@pytest.mark.parametrize(("kind", "registered"), [("first", {"q@1"}), ("change", {"p@0"})])
def test_a_first_version_is_first_and_a_later_one_a_change(kind: str, registered: set[str]) -> None:
    changed = replace(
        facts(), application=application().model_copy(update={"kind": kind}), registered=frozenset(registered)
    )
    assert isinstance(move("apply", state="none", role="operator", facts=changed), Permit)


@pytest.mark.parametrize(
    ("act", "state", "role"),
    [
        ("renewal", "coded", "agency"),
        ("ask_renewal", "cancelled", "operator"),
        ("ask_renewal", "renewal_asked", "operator"),
        ("renewal", "renewal_asked", "operator"),
        ("cancellation", "cancelled", "agency"),
    ],
)
def test_another_state_or_role_is_refused(act: str, state: str, role: str) -> None:
    assert isinstance(move(act, state=state, role=role, facts=facts()), Refusal)


@pytest.mark.parametrize(
    ("asked", "state", "settled", "target"),
    [
        ("ask_renewal", "renewal_asked", "renewal", "coded"),
        ("ask_correction", "correction_asked", "correction", "coded"),
        ("ask_cancellation", "cancellation_asked", "cancellation", "cancelled"),
        ("ask_cancellation", "cancellation_asked", "deny", "coded"),
    ],
)
def test_what_the_operator_asks_the_agency_settles(asked: str, state: str, settled: str, target: str) -> None:
    first = move(asked, state="coded", role="operator", facts=facts())
    assert isinstance(first, Permit)
    assert first.target == state
    second = move(settled, state=state, role="agency", facts=facts())
    assert isinstance(second, Permit)
    assert second.target == target


def test_the_renewal_window_opens_sixty_days_before_the_end() -> None:
    at_the_edge = replace(facts(), valid_until=NOW + timedelta(days=60))
    assert isinstance(move("ask_renewal", state="coded", role="operator", facts=at_the_edge), Permit)
    assert renewal_from(NOW, NATIONAL.registration.renewal_window) == NOW - timedelta(days=60)


def test_the_agreement_ends_a_registration_sooner_than_three_years() -> None:
    assert valid_until(NOW, NOW + timedelta(days=100), NATIONAL) == NOW + timedelta(days=100)
    assert valid_until(NOW, NOW + timedelta(days=9000), NATIONAL) == NOW.replace(year=NOW.year + 3)


def test_clocks_run_in_working_days() -> None:
    # 2 March 2026 is a Monday; the Qingming holiday (4 to 6 April) interrupts the review's successor.
    found = clocks(datetime(2026, 3, 2, 8, tzinfo=UTC), NATIONAL)
    assert (found.accept_by, found.review_by) == (date(2026, 3, 5), date(2026, 4, 2))
    assert found.publicity_until == date(2026, 4, 17)
    assert not found.is_provisional


def test_a_year_whose_holidays_are_not_decreed_is_provisional() -> None:
    assert clocks(datetime(2035, 3, 1, 8, tzinfo=UTC), NATIONAL).is_provisional


ROLES = {
    "apply": ("none", "operator", "applied"), "code": ("applied", "agency", "coded"),
    "refuse": ("applied", "agency", "refused"), "ask_renewal": ("coded", "operator", "renewal_asked"),
    "ask_correction": ("coded", "operator", "correction_asked"),
    "ask_cancellation": ("coded", "operator", "cancellation_asked"), "renewal": ("renewal_asked", "agency", "coded"),
    "correction": ("correction_asked", "agency", "coded"), "deny": ("renewal_asked", "agency", "coded"),
    "cancellation": ("coded", "agency", "cancelled"),
}  # fmt: skip


def answered(act: str, **change: object) -> Permit | Refusal:
    state, role, _ = ROLES[act]
    given = {"registered": frozenset()} if act in {"apply", "code"} else {}
    return move(act, state=state, role=role, facts=replace(facts(), **{**given, **change}))


def with_application(**change: object) -> dict[str, object]:
    return {"application": application().model_copy(update=change)}


def ending(moment: datetime) -> dict[str, object]:
    [source] = application().resources
    return with_application(resources=(source.model_copy(update={"registration_valid_until": moment}),))


def stored(moment: datetime) -> dict[str, object]:
    return with_application(evidence=application().evidence.model_copy(update={"stored_at": moment}))


@pytest.mark.parametrize("act", ROLES)
def test_each_act_leads_where_it_says(act: str) -> None:
    found = answered(act)
    assert isinstance(found, Permit), found
    assert found.target == ROLES[act][2]


@pytest.mark.parametrize(
    ("acts", "change", "code"),
    [
        (("apply", "ask_renewal", "ask_correction", "ask_cancellation"), {"sender": "x"}, "registration.registrant"),
        (("apply",), stored(NOW + timedelta(seconds=1)), "registration.evidence"),
        (("apply", "code", "ask_renewal", "renewal"), ending(NOW), "registration.source_expired"),
        (("apply", "code", "ask_renewal", "renewal"), {"grant_sha256": None}, "registration.grant"),
        (("apply", "code", "ask_renewal", "renewal"), {"grant_sha256": "cd" * 32}, "registration.grant"),
        (("apply", "code", "ask_renewal", "renewal"), {"agreement_until": None}, "registration.agreement"),
        (("apply", "code", "ask_renewal", "renewal"), {"agreement_until": NOW}, "registration.agreement"),
        (("apply", "code"), {"granted": {}}, "registration.no_run"),
        (("apply", "code"), {"granted": {"node-b": frozenset({"res.a"})}}, "registration.no_run"),
        (
            ("apply", "code"),
            {"granted": {"node-a": frozenset({"res.a", "res.missing"})}},
            "registration.source_missing",
        ),
        (("apply", "code"), {"registered": frozenset({"p@1"})}, "registration.twice"),
        (("code", "refuse", "renewal", "correction", "deny", "cancellation"), {"reason": " "}, "registration.reason"),
    ],
)
def test_each_act_is_refused_for_each_gap(acts: tuple[str, ...], change: dict, code: str) -> None:
    for act in acts:
        found = answered(act, **change)
        assert isinstance(found, Refusal), act
        assert found.code == code, act
        if code == "registration.source_missing":
            assert "res.missing" in found.message


def test_edges_of_an_application_are_inside() -> None:
    assert isinstance(answered("apply", **stored(NOW)), Permit)
    assert isinstance(answered("apply", **ending(NOW + timedelta(seconds=1))), Permit)


def test_clocks_are_provisional_when_any_of_them_is() -> None:
    # From early December the acceptance ends in 2026, the review in 2027.
    assert clocks(datetime(2026, 12, 10, 8, tzinfo=UTC), NATIONAL).is_provisional
    assert not clocks(datetime(2026, 9, 10, 8, tzinfo=UTC), NATIONAL).is_provisional
