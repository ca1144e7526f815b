"""Registration of a product version: the seven blocks, and when a code may be given. Pure.

``applied → coded | refused``; ``coded → renewal_asked | correction_asked | cancellation_asked →
coded | cancelled``. This is the internal registration that precedes every release; the national
application (publicity of ten working days, national code) follows delivery within twenty
working days and stands beside it.

Source:
    发改数据规〔2025〕26号, articles 5, 7, 9, 13; regulations/NATIONAL.md section 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as field_of
from datetime import date, datetime, timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from factory.law.limits import Limit, add_years, end_of, passing
from factory.law.profile import Profile
from factory.lifecycle.machine import Permit, Refusal, Transition, decide
from factory.registry.request import Form
from nodes.contract.messages import Count, Hex32, Message, Name, Part, Text, Time

BLOCKS = ("REG-PRODUCT", "NR-09-2")
EVIDENCE = ("PROV-TRACE", "NR-07-4")
LINK = ("REG-LINK", "GD-27-2", "REG-RESOURCE", "NR-05-1")
PRODUCT = ("REG-PRODUCT", "SD-19-2", "JL-运营实施-13", "GD-27-1", "NR-05-2", "NO-16-1")
RUNS = ("PC-ENV", "JN-04-3", "JL-运营管理-21", "SZ-06.2-3", "GD-25-1")
ONCE = ("REG-PRODUCT", "NR-09-1")
DECLARATION = ("REG-PRODUCT", "NR-07-2")
REASON = ("REG-PRODUCT", "NR-10-3")


class Registrant(Part):
    """Block 1, 主体信息."""

    actor: Name
    organisation: Name
    name_zh: Text
    name_en: Text


class LawfulSource(Part):
    """Block 2, 数据合法合规性来源."""

    basis: Text
    agreement_id: Name
    grant_id: Name
    grant_sha256: Hex32


class SourceResource(Part):
    """Block 3, 数据资源情况: one source with its own registration."""

    resource: Name
    version: Annotated[int, Field(ge=1)]
    holder: Name
    statement_sha256: Hex32
    registration_platform: Text
    registration_code: Text
    registration_valid_until: Time
    quality_score_x100: Annotated[int, Field(ge=0, le=10_000)]


class EvidenceEntry(Part):
    """One statement that stands in the log."""

    name: Text
    sha256: Hex32
    log_index: Count


class StoredEvidence(Part):
    """Block 4, 存证情况: where the evidence was stored before the application."""

    log_origin: Text
    stored_at: Time
    entries: Annotated[tuple[EvidenceEntry, ...], Field(min_length=1, strict=False)]


class ProductFile(Part):
    """One file of the product."""

    path: Text
    sha256: Hex32


class ProductBlock(Part):
    """Block 5, 产品和服务信息."""

    id: Name
    product_version: Text
    form: Form
    name_zh: Text
    name_en: Text
    summary: Text
    files: Annotated[tuple[ProductFile, ...], Field(min_length=1, strict=False)]


class ScenarioBlock(Part):
    """Block 6, 应用场景信息."""

    scenario: Name
    title: Text
    purpose: Name
    request_sha256: Hex32


class RiskBlock(Part):
    """Block 7, 数据安全风险评估."""

    prerelease_sha256: Hex32
    reviews_sha256: Annotated[tuple[Hex32, ...], Field(min_length=2, strict=False)]
    tests: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    leaves_country: bool


class Application(Message):
    """An application for registration with its seven blocks (26号 art. 9).

    Attributes:
        declaration: that the material is true, complete, lawful and valid; signed with the message that carries it.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.registration.v1+json"

    version: Literal[1] = 1
    application_id: Name
    kind: Literal["first", "change", "correction", "cancellation"] = "first"
    registrant: Registrant
    lawful_source: LawfulSource
    resources: Annotated[tuple[SourceResource, ...], Field(min_length=1, strict=False)]
    evidence: StoredEvidence
    product: ProductBlock
    scenario: ScenarioBlock
    risk: RiskBlock
    declaration: Literal["true, complete, lawful and valid"] = "true, complete, lawful and valid"
    applied_at: Time

    @property
    def subject(self) -> str:
        """Name and version of the product."""
        return f"{self.product.id}@{self.product.product_version}"


@dataclass(frozen=True, slots=True)
class RegistrationFacts:
    """What the guards look at.

    Attributes:
        application: the seven blocks.
        sender: who signed it.
        now: clock.
        profile: of the jurisdiction.
        registered: subjects that have a code in force.
        grant_sha256: digest of the grant that the agency issued under this id, if it did.
        granted: resources that each node's part of this grant names.
        agreement_until: end of the agreement.
        reason: of the official's decision, when one is recorded.
        valid_until: end of the registration, once there is a code.
        field: what a correction would set.
    """

    application: Application
    sender: str
    now: datetime
    profile: Profile
    registered: frozenset[str]
    grant_sha256: str | None
    agreement_until: datetime | None
    granted: Mapping[str, frozenset[str]] = field_of(default_factory=dict)
    reason: str = ""
    valid_until: datetime | None = None
    field: str = ""


CORRECTABLE = ("registrant.name_zh", "registrant.name_en", "product.summary", "scenario.title")
"""What a correction may set: texts for people. What was signed changes with a new version only."""

ASKED = {"renewal": "renewal_asked", "correction": "correction_asked", "cancellation": "cancellation_asked"}
"""State per kind of later application."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Until when an application has to be dealt with.

    Attributes:
        accept_by, review_by: last days to accept it and to review its form.
        publicity_until: last day of publicity if the review takes its whole time.
        is_provisional: a day lies in a year whose holidays are not decreed yet.
    """

    accept_by: date
    review_by: date
    publicity_until: date
    is_provisional: bool


def clocks(applied: datetime, profile: Profile) -> Clocks:
    """Return the deadlines of an application, each step taking its whole time."""
    rules = profile.registration
    accept = passing(rules.accept, applied)
    review = passing(rules.form_review, _inside(accept.last_day))
    publicity = passing(rules.publicity, _inside(review.last_day))
    provisional = accept.is_provisional or review.is_provisional or publicity.is_provisional
    return Clocks(accept.last_day, review.last_day, publicity.last_day, provisional)


def _inside(day: date) -> datetime:
    return end_of(day) - timedelta(hours=1)


def renewal_from(end: datetime, window: Limit) -> datetime:
    """Return from when a registration that ends at ``end`` may be renewed; the window is in days."""
    return end - timedelta(days=window.amount)


def _in_renewal_window(facts: RegistrationFacts) -> Refusal | None:
    if facts.valid_until is None or facts.now >= facts.valid_until:
        return Refusal("registration.ended", "the registration has ended; apply for a first registration", PRODUCT)
    opens = renewal_from(facts.valid_until, facts.profile.registration.renewal_window)
    if facts.now < opens:
        return Refusal("registration.too_early", f"renewal opens {opens:%Y-%m-%d}", PRODUCT)
    return None


def _extends(facts: RegistrationFacts) -> Refusal | None:
    end, agreement = facts.valid_until, facts.agreement_until
    if end is not None and agreement is not None and valid_until(end, agreement, facts.profile) <= end:
        return Refusal(
            "registration.no_extension",
            f"the agreement ends {agreement:%Y-%m-%d}, so a renewal would extend nothing; renew the agreement first",
            PRODUCT,
        )
    return None


def _is_correctable(facts: RegistrationFacts) -> Refusal | None:
    if facts.field not in CORRECTABLE:
        return Refusal(
            "registration.correction",
            f"expected one of {', '.join(CORRECTABLE)}; anything signed changes with a new version",
            BLOCKS,
        )
    return None


def _in_own_name(facts: RegistrationFacts) -> Refusal | None:
    if facts.application.registrant.actor != facts.sender:
        return Refusal("registration.registrant", "expected an application in the sender's own name", DECLARATION)
    return None


def _evidence_first(facts: RegistrationFacts) -> Refusal | None:
    if facts.application.evidence.stored_at > facts.application.applied_at:
        return Refusal("registration.evidence", "expected evidence that was stored before the application", EVIDENCE)
    return None


def _sources_registered(facts: RegistrationFacts) -> Refusal | None:
    for source in facts.application.resources:
        if source.registration_valid_until <= facts.now:
            return Refusal(
                "registration.source_expired",
                f"the registration of {source.resource} has expired; renew it first",
                LINK,
            )
    return None


def _every_source_named(facts: RegistrationFacts) -> Refusal | None:
    names = {entry.name.partition(".")[0] for entry in facts.application.evidence.entries}
    ran = {node for node in facts.granted if f"run-{node}" in names}
    if not ran:
        return Refusal(
            "registration.no_run", "expected the run statement of a granted department in the evidence", RUNS
        )
    listed = {source.resource for source in facts.application.resources}
    missing = sorted({resource for node in ran for resource in facts.granted[node]} - listed)
    if missing:
        return Refusal(
            "registration.source_missing", f"expected every source with its registration; missing: {missing[0]}", LINK
        )
    return None


def _under_an_issued_grant(facts: RegistrationFacts) -> Refusal | None:
    if facts.grant_sha256 is None or facts.grant_sha256 != facts.application.lawful_source.grant_sha256:
        return Refusal("registration.grant", "expected a grant that this agency issued, with its digest", PRODUCT)
    if facts.agreement_until is None or facts.agreement_until <= facts.now:
        return Refusal("registration.agreement", "expected an agreement in force", PRODUCT)
    return None


def _once(facts: RegistrationFacts) -> Refusal | None:
    if facts.application.kind == "first" and facts.application.subject in facts.registered:
        return Refusal(
            "registration.twice", f"{facts.application.subject} has a code; apply for a change instead", ONCE
        )
    versions = {subject for subject in facts.registered if subject.startswith(f"{facts.application.product.id}@")}
    if facts.application.kind == "first" and versions:
        return Refusal(
            "registration.not_first", f"{max(versions)} is registered; apply for a change of that product", ONCE
        )
    if facts.application.kind == "change" and not versions - {facts.application.subject}:
        return Refusal("registration.no_earlier", "expected an earlier version that is registered", ONCE)
    if facts.application.kind == "change" and facts.application.subject in versions:
        return Refusal("registration.twice", f"{facts.application.subject} has a code already", ONCE)
    return None


def _reasoned(facts: RegistrationFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("registration.reason", "expected a reason", REASON)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


TRANSITIONS: tuple[Transition[RegistrationFacts], ...] = (
    Transition(
        "apply",
        _words("none"),
        "applied",
        _words("operator"),
        (_in_own_name, _evidence_first, _sources_registered, _under_an_issued_grant, _every_source_named, _once),
        BLOCKS,
    ),
    Transition(
        "code",
        _words("applied"),
        "coded",
        _words("agency"),
        (_sources_registered, _under_an_issued_grant, _every_source_named, _once, _reasoned),
        PRODUCT,
    ),
    Transition("refuse", _words("applied"), "refused", _words("agency"), (_reasoned,), REASON),
    Transition(
        "ask_renewal",
        _words("coded"),
        "renewal_asked",
        _words("operator"),
        (_in_own_name, _in_renewal_window, _sources_registered, _under_an_issued_grant, _extends),
        PRODUCT,
    ),
    Transition(
        "ask_correction",
        _words("coded"),
        "correction_asked",
        _words("operator"),
        (_in_own_name, _reasoned, _is_correctable),
        BLOCKS,
    ),
    Transition(
        "ask_cancellation",
        _words("coded"),
        "cancellation_asked",
        _words("operator"),
        (_in_own_name, _reasoned),
        ("REG-PRODUCT", "NR-09-7"),
    ),
    Transition(
        "renewal",
        _words("renewal_asked"),
        "coded",
        _words("agency"),
        (_sources_registered, _under_an_issued_grant, _extends, _reasoned),
        PRODUCT,
    ),
    Transition("correction", _words("correction_asked"), "coded", _words("agency"), (_reasoned,), BLOCKS),
    Transition("deny", _words(*ASKED.values()), "coded", _words("agency"), (_reasoned,), REASON),
    Transition(
        "cancellation",
        _words("coded", "cancellation_asked"),
        "cancelled",
        _words("agency"),
        (_reasoned,),
        ("REG-PRODUCT", "NR-09-7"),
    ),
)


def move(act: str, *, state: str, role: str, facts: RegistrationFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to an application in ``state``."""
    return decide(TRANSITIONS, act, name="registration", state=state, role=role, facts=facts)


def valid_until(now: datetime, agreement_until: datetime, profile: Profile) -> datetime:
    """Return the end of a registration: the profile's years, or the agreement's end if that is sooner."""
    return min(add_years(now, profile.registration.validity_years), agreement_until)
