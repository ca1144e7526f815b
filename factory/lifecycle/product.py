"""The product as a state machine. Pure.

``building → built → tested → reviewed → pre_release_reported → registered → released →
operating ⇄ suspended → retired``. A failed test or a returned review leads back to
*building* with the reason.

Source:
    regulations/LIFECYCLE.md section 5; the strict order where profiles disagree.
"""

from dataclasses import dataclass, field
from datetime import datetime

from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide

TESTED = ("PROD-OPREV", "PROD-NORAW", "RECON", "LINK-RISK", "Q-PRODUCT")
REVIEWED = ("PROD-REVIEW", "GD-26-1")
REPORTED = ("PREREL", "JL-运营实施-15")
REGISTERED = ("REG-PRODUCT", "SD-19-2", "GD-27-1")
RELEASED = ("REL-PUBLISH", "JN-06-4", "SZ-06.3-11", "GD-25-3")
LISTED = ("PROD-LIST", "SZ-09-1", "SZ-09-3", "SZ-09-7")
DEMAND = ("PROD-DEMAND", "JN-15-1")
HEAD = ("PER-OFFDEC", "JN-20-5")
TRADE = ("REL-TRADE", "SD-22-1", "GD-28-1")
AUTHORISED = ("UNI-AUTH", "SZ-05-7", "SZ-10.7-7", "GD-10-1")
TRACE = ("PROV-TRACE", "JN-07-4", "SZ-10.1-3", "GD-30-1")
CLOSE = ("SUSP-CLOSE", "SD-38-1", "JN-24-1")


@dataclass(frozen=True, slots=True)
class ProductFacts:
    """What the guards look at; the shell fetches each from verified evidence.

    Attributes:
        now: clock.
        profile: of the jurisdiction.
        departments: nodes of the grant that took part.
        runs_signed: nodes with a verified run statement.
        agreement_until: end of an agreement with this operator that is in force, None without one.
        grant_until: end of the grant.
        grant_struck: the grant is suspended or revoked.
        test_failures: why tests failed, empty if all passed.
        tests: number of tests that ran.
        reviewer_organisations: organisation per reviewer whose review verified.
        involved_organisations: of the operator and the departments.
        prerelease_problems: why the ten items are not met, empty if they are.
        prerelease_receipts: who acknowledged the report: bodies by their role, and departments' nodes.
        registration_code: code, empty without one.
        registration_until: its end.
        release_signers: actors whose signatures on the release verified, by role.
        listed: the product is on the filed and public list, in its form and with its entries.
        demand: record of the application unit's demand, empty without one.
        exchange_reference: of the exchange where it is traded, empty without one.
        reason: of a suspension, restoration or return.
    """

    now: datetime
    profile: Profile
    departments: frozenset[str] = frozenset()
    runs_signed: frozenset[str] = frozenset()
    agreement_until: datetime | None = None
    grant_until: datetime | None = None
    grant_struck: bool = False
    test_failures: tuple[str, ...] = ()
    tests: int = 0
    reviewer_organisations: dict[str, str] = field(default_factory=dict)
    involved_organisations: frozenset[str] = frozenset()
    prerelease_problems: str = "not measured"
    prerelease_receipts: frozenset[str] = frozenset()
    registration_code: str = ""
    registration_until: datetime | None = None
    release_signers: dict[str, frozenset[str]] = field(default_factory=dict)
    listed: bool = False
    demand: str = ""
    exchange_reference: str = ""
    reason: str = ""


def _authorised(facts: ProductFacts) -> Refusal | None:
    if facts.agreement_until is None or facts.agreement_until <= facts.now:
        return Refusal("product.unauthorised", "expected an agreement in force with who supplies it", AUTHORISED)
    return None


def _provenance_complete(facts: ProductFacts) -> Refusal | None:
    missing = sorted(facts.departments - facts.runs_signed)
    if missing or not facts.departments:
        return Refusal(
            "product.provenance", f"expected a signed run statement of every department; missing: {missing}", TRACE
        )
    return None


def _grant_in_force(facts: ProductFacts) -> Refusal | None:
    if facts.grant_struck:
        return Refusal("product.grant", "the grant is suspended or revoked", CLOSE)
    if facts.grant_until is None or facts.grant_until <= facts.now:
        return Refusal("product.grant", "expected a grant in force", RELEASED)
    return None


def _tests_passed(facts: ProductFacts) -> Refusal | None:
    if facts.tests == 0:
        return Refusal("product.untested", "expected automated tests, none ran", TESTED)
    if facts.test_failures:
        return Refusal("product.test_failed", "back to building: " + "; ".join(facts.test_failures), TESTED)
    return None


def _reviewed_by_two_bodies(facts: ProductFacts) -> Refusal | None:
    counted = {
        person: body
        for person, body in facts.reviewer_organisations.items()
        if body not in facts.involved_organisations
    }
    if len(counted) < 2 or len(set(counted.values())) < 2:
        return Refusal(
            "product.review",
            f"expected two reviewers of two other organisations, got {len(counted)} of {len(set(counted.values()))}",
            REVIEWED,
        )
    return None


def _demanded(facts: ProductFacts) -> Refusal | None:
    if facts.profile.product.demand_required and not facts.demand.strip():
        return Refusal("product.demand", "expected the demand of an application unit that it answers", DEMAND)
    return None


def _on_the_list(facts: ProductFacts) -> Refusal | None:
    if facts.profile.product.list_filed and not facts.listed:
        return Refusal("product.unlisted", "expected a product on the filed and public list; file it first", LISTED)
    return None


def _head_signed(facts: ProductFacts) -> Refusal | None:
    if facts.profile.product.security_head_signs and not facts.release_signers.get("security_head"):
        return Refusal("product.security_head", "expected the security head's signature on the release", HEAD)
    return None


def _traded_openly(facts: ProductFacts) -> Refusal | None:
    if facts.profile.product.exchange_required and not facts.exchange_reference.strip():
        return Refusal("product.exchange", "expected the reference of the exchange it is traded at", TRADE)
    return None


def _report_complete(facts: ProductFacts) -> Refusal | None:
    if facts.prerelease_problems:
        return Refusal("product.prerelease", facts.prerelease_problems, ("PREREL-ITEM",))
    return None


def _report_receipted(facts: ProductFacts) -> Refusal | None:
    officials = [body for body in facts.profile.product.report_to if body != "source_department"]
    receipts = {facts.profile.as_named(body) for body in facts.prerelease_receipts}
    missing = sorted({facts.profile.as_named(body) for body in officials} - receipts)
    if missing:
        return Refusal("product.receipt", f"expected the report acknowledged by {', '.join(missing)}", REPORTED)
    return None


def _departments_informed(facts: ProductFacts) -> Refusal | None:
    if "source_department" not in facts.profile.product.report_to:
        return None
    missing = sorted(facts.departments - facts.prerelease_receipts)
    if missing:
        return Refusal("product.receipt", f"expected the report acknowledged by {', '.join(missing)}", REPORTED)
    return None


def _code_valid(facts: ProductFacts) -> Refusal | None:
    if not facts.registration_code:
        return Refusal("product.unregistered", "expected a registration code", REGISTERED)
    if facts.registration_until is None or facts.registration_until <= facts.now:
        return Refusal("product.registration_expired", "the registration has expired; renew it", REGISTERED)
    return None


def _release_signed(facts: ProductFacts) -> Refusal | None:
    signers = facts.release_signers
    if not signers.get("operator"):
        return Refusal("product.release", "expected the operator's signature on the release", RELEASED)
    missing = sorted(facts.departments - signers.get("node", frozenset()))
    if missing:
        return Refusal("product.release", f"expected {', '.join(missing)} on the release", RELEASED)
    if len(signers.get("registrar", frozenset())) < 2:
        return Refusal("product.release", "expected two registrars on the release", RELEASED)
    return None


def _reasoned(facts: ProductFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("product.reason", "expected a reason", CLOSE)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_EVERY = _words(
    "building",
    "built",
    "tested",
    "reviewed",
    "pre_release_reported",
    "registered",
    "released",
    "operating",
    "suspended",
)
_BEFORE_RELEASE = _words("built", "tested", "reviewed", "pre_release_reported", "registered")

TRANSITIONS: tuple[Transition[ProductFacts], ...] = (
    Transition(
        "start",
        _words("none"),
        "building",
        _words("operator"),
        (_authorised, _grant_in_force, _on_the_list),
        AUTHORISED,
    ),
    Transition(
        "build", _words("building"), "built", _words("operator"), (_grant_in_force, _provenance_complete), TRACE
    ),
    Transition("test", _words("built"), "tested", _words("operator"), (_tests_passed,), TESTED),
    Transition(
        "review", _words("tested"), "reviewed", _words("reviewer"), (_demanded, _reviewed_by_two_bodies), REVIEWED
    ),
    Transition(
        "report",
        _words("reviewed"),
        "pre_release_reported",
        _words("operator"),
        (_report_complete, _report_receipted),
        REPORTED,
    ),
    Transition(
        "register",
        _words("pre_release_reported"),
        "registered",
        _words("agency"),
        (_grant_in_force, _code_valid),
        REGISTERED,
    ),
    Transition(
        "release",
        _words("registered"),
        "released",
        _words("operator"),
        (
            _grant_in_force,
            _code_valid,
            _on_the_list,
            _departments_informed,
            _release_signed,
            _head_signed,
            _traded_openly,
        ),
        RELEASED,
    ),
    Transition(
        "operate", _words("released"), "operating", _words("operator"), (_grant_in_force, _code_valid), RELEASED
    ),
    Transition(
        "suspend",
        _words("released", "operating"),
        "suspended",
        _words("agency", "node", "operator"),
        (_reasoned,),
        CLOSE,
    ),
    Transition(
        "restore",
        _words("suspended"),
        "operating",
        _words("agency"),
        (_reasoned, _grant_in_force, _code_valid),
        CLOSE,
    ),
    Transition("return", _BEFORE_RELEASE, "building", _words("operator", "reviewer", "agency"), (_reasoned,), REVIEWED),
    Transition("retire", _EVERY, "retired", _words("operator", "agency"), (_reasoned,), ("REL-LIFE", "SD-29-1")),
)
"""The machine."""


def move(act: str, *, state: str, role: str, facts: ProductFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to a product in ``state``."""
    return decide(TRANSITIONS, act, name="product", state=state, role=role, facts=facts)
