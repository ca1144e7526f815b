"""The level's catalogue: the resource as a state machine, and what a request may list of it. Pure.

``draft → submitted → source_reviewed → confirmed → in_scope | excluded → registered → bound → active ⇄ held →
withdrawn``. A new version of an entry starts again at *submitted*; until it is confirmed nothing new is
granted on it, and what depends on the version before is flagged.

Source:
    regulations/LIFECYCLE.md section 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from factory.lifecycle.machine import Permit, Refusal, Transition, decide
from nodes.contract.catalogue import IN_SCOPE, EntryExtract, SourceConsent, SourceReview, controls_for
from nodes.contract.grant import Thresholds
from nodes.contract.messages import Name, Part, ResourceUse, Text

SCHEMA = ("CAT-SCHEMA", "SD-06-2", "GD-11-2")
COMPILE = ("CAT-COMPILE", "SD-05-5", "JL-运营管理-49", "SZ-07-5", "GD-11-3")
GRADED = ("CLS-GRADE", "SD-05-3", "SZ-09-2", "GD-34-3")
PREREVIEW = ("CLS-PREREVIEW", "JL-运营管理-54", "SZ-11.2-6")
CONFIRM = ("Q-CONFIRM", "SD-08-7")
ATTRIBUTE = ("CAT-ATTR", "GD-11-4")
REFUSE = ("CAT-REFUSE", "GD-11-9")
PROHIBIT = ("ELIG-PROHIBIT", "SD-05-4", "JL-基本要求-2")
SOURCE_CONSENT = ("ELIG-SRCCONSENT", "JL-基本要求-6", "GD-11-10")
SECRET = ("ELIG-SECRET", "JN-02-2")
BIND = ("SUP-BIND", "SD-05-6", "JL-运营管理-47", "SZ-06.2-4", "GD-12-2")
UNIFIED = ("CAT-UNIFIED", "SD-06-1", "SZ-07-2", "GD-11-1")
DYNAMIC = ("CAT-DYNAMIC", "SZ-07-3", "GD-11-6")
HELD = ("Q-RECTIFY", "SD-08-8", "JN-14-3")
CORRECT = ("Q-CORRECT", "SD-08-5")
REGISTERED = ("REG-RESOURCE", "GD-09-1")
MONITOR = ("Q-MONITOR", "SD-05-7", "SUP-UPDATE", "SD-07-2")

USABLE = frozenset({"in_scope", "registered", "bound", "active"})
"""States in which a request may list the resource."""
CATALOGUE_MISS = "catalogue.miss"
"""Code of every refusal of a dataset that is not catalogued, in whatever step it is named."""


class Standard(Part):
    """A version of the compilation standard (编制规范), owned by the provincial data administration.

    Attributes:
        version: name, e.g. ``v2``; stored with every entry that was checked against it.
        required: fields of the public extract that must be filled, e.g. ``update_frequency_days``.
        column_required: fields of every column that must be filled.
    """

    version: Name
    title: Text
    required: Annotated[tuple[Text, ...], Field(strict=False)] = ("owner", "class", "grade", "operation_attribute")
    column_required: Annotated[tuple[Text, ...], Field(strict=False)] = ("grade",)


DEFAULT_STANDARD = Standard(
    version="v1",
    title="公共数据资源目录编制规范",
    required=("owner", "class", "grade", "update_frequency_days", "operation_attribute"),
)
"""In force until the data administration sets another."""


@dataclass(frozen=True, slots=True)
class EntryFacts:
    """What the guards look at.

    Attributes:
        now: clock.
        organisation: of who acts.
        value: the extract as it was submitted, before it is read as an entry.
        entry: the extract once it is one.
        standard: version in force.
        known_version: version the catalogue holds, 0 if none.
        review: the source department's own review, verified.
        consents: verified statements of the original provider.
        schema_sha256: schema of the dataset that a node has bound, empty if none.
        reason: of exclusion, hold or withdrawal.
    """

    now: datetime
    organisation: str
    value: Mapping[str, Any] = field(default_factory=dict)
    entry: EntryExtract | None = None
    entry_sha256: str = ""
    standard: Standard = DEFAULT_STANDARD
    known_version: int = 0
    review: SourceReview | None = None
    consents: tuple[SourceConsent, ...] = ()
    schema_sha256: str = ""
    reason: str = ""


def standard_findings(value: Mapping[str, Any], standard: Standard) -> list[str]:
    """Return the fields that a standard asks for and an extract leaves empty, by name."""
    columns: Any = value.get("columns") or [{}]
    missing = [name for name in standard.required if not value.get(name)]
    missing += sorted(
        f"columns.{column.get('name', place)}.{name}"
        for place, column in enumerate(columns)
        for name in standard.column_required
        if not column.get(name)
    )
    return missing


def _no_secret(facts: EntryFacts) -> Refusal | None:
    if facts.value.get("secrecy", "none") != "none":
        return Refusal("resource.secret", "expected data that is no state secret; nothing of it was kept", SECRET)
    return None


def _own_entry(facts: EntryFacts) -> Refusal | None:
    if facts.value.get("owner") != facts.organisation:
        return Refusal("resource.owner", f"expected an entry of {facts.organisation}'s own", COMPILE)
    return None


def _meets_standard(facts: EntryFacts) -> Refusal | None:
    missing = standard_findings(facts.value, facts.standard)
    if missing:
        told = f"standard {facts.standard.version} asks for {', '.join(missing[:8])}; fill it in and submit again"
        return Refusal("resource.standard", told, SCHEMA)
    return None


def _newer(facts: EntryFacts) -> Refusal | None:
    version = facts.value.get("version")
    if not isinstance(version, int) or version <= facts.known_version:
        told = f"expected version {facts.known_version + 1} or later, the catalogue holds {facts.known_version}"
        return Refusal("resource.version", told, DYNAMIC)
    return None


def _reviewed(facts: EntryFacts) -> Refusal | None:
    review, entry = facts.review, facts.entry
    if review is None or entry is None:
        return Refusal("resource.review", "expected the source department's own signed review", PREREVIEW)
    if (review.resource, review.version, review.entry_sha256) != (entry.id, entry.version, facts.entry_sha256):
        told = f"expected a review of version {entry.version} as it stands, got one of version {review.version}"
        return Refusal("resource.review", told, PREREVIEW)
    return None


def _by_another(facts: EntryFacts) -> Refusal | None:
    if facts.entry is None or facts.entry.owner == facts.organisation:
        return Refusal("resource.own_confirmation", "expected confirmation by a body other than the owner", CONFIRM)
    return None


def _attribute_in_scope(facts: EntryFacts) -> Refusal | None:
    return attribute_refusal(facts.entry) if facts.entry else Refusal("resource.entry", "expected an entry", SCHEMA)


def _eligible(facts: EntryFacts) -> Refusal | None:
    return eligibility_refusal(facts.entry) if facts.entry else Refusal("resource.entry", "expected an entry", SCHEMA)


def _source_consents(facts: EntryFacts) -> Refusal | None:
    if facts.entry is None:
        return Refusal("resource.entry", "expected an entry", SCHEMA)
    return consent_refusal(facts.entry, facts.consents, facts.now)


def _out_of_scope(facts: EntryFacts) -> Refusal | None:
    entry = facts.entry
    if entry is None or entry.operation_attribute != "prohibited":
        return Refusal("resource.attribute", "expected an entry that its owner marked prohibited", ATTRIBUTE)
    if not entry.attribute_reason.strip() or not entry.legal_basis.strip():
        return Refusal("resource.exclusion", "expected the reason and the legal basis of the exclusion", REFUSE)
    return None


def _same_schema(facts: EntryFacts) -> Refusal | None:
    if facts.entry is None or facts.schema_sha256 != facts.entry.schema_sha256:
        return Refusal("resource.schema", "expected a dataset whose columns are those of the entry", BIND)
    return None


def _reasoned(facts: EntryFacts) -> Refusal | None:
    return None if facts.reason.strip() else Refusal("resource.reason", "expected a reason", DYNAMIC)


def _words(*words: str) -> frozenset[str]:
    return frozenset(words)


_EVERY = _words("draft", "submitted", "source_reviewed", "confirmed", "held", "excluded") | USABLE

TRANSITIONS: tuple[Transition[EntryFacts], ...] = (
    Transition(
        "submit",
        _EVERY | _words("withdrawn"),
        "submitted",
        _words("source_department"),
        (_no_secret, _own_entry, _meets_standard, _newer),
        (*SCHEMA, *COMPILE),
    ),
    Transition("review", _words("submitted"), "source_reviewed", _words("source_department"), (_reviewed,), PREREVIEW),
    Transition(
        "confirm", _words("source_reviewed"), "confirmed", _words("data_administration"), (_by_another,), CONFIRM
    ),
    Transition(
        "include",
        _words("confirmed"),
        "in_scope",
        _words("data_administration"),
        (_attribute_in_scope, _eligible, _source_consents),
        (*ATTRIBUTE, *PROHIBIT),
    ),
    Transition("exclude", _words("confirmed"), "excluded", _words("data_administration"), (_out_of_scope,), REFUSE),
    Transition("register", _words("in_scope"), "registered", _words("registrar"), (), REGISTERED),
    Transition("bind", _words("in_scope", "registered"), "bound", _words("source_department"), (_same_schema,), BIND),
    Transition("activate", _words("bound"), "active", _words("node"), (), MONITOR),
    Transition("hold", _words("active", "bound"), "held", _words("node", "data_administration"), (_reasoned,), HELD),
    Transition("release", _words("held"), "active", _words("data_administration"), (_reasoned,), CORRECT),
    Transition(
        "withdraw", _EVERY, "withdrawn", _words("source_department", "data_administration"), (_reasoned,), DYNAMIC
    ),
)
"""The machine."""


def move(act: str, *, state: str, role: str, facts: EntryFacts) -> Permit | Refusal:
    """Say whether ``act`` may happen to a resource in ``state``."""
    return decide(TRANSITIONS, act, name="resource", state=state, role=role, facts=facts)


def attribute_refusal(entry: EntryExtract) -> Refusal | None:
    """Refuse an entry whose authorised-operation attribute is empty or out of scope."""
    if entry.operation_attribute not in IN_SCOPE:
        marked = entry.operation_attribute or "empty"
        return Refusal(
            "resource.attribute",
            f"expected {entry.id} marked open or conditional, its attribute is {marked}",
            ATTRIBUTE,
        )
    return None


def eligibility_refusal(entry: EntryExtract) -> Refusal | None:
    """Refuse an entry with a prohibited circumstance, or whose check was never completed."""
    if entry.eligibility is None:
        return Refusal("resource.unchecked", f"expected a check of {entry.id} for prohibited circumstances", PROHIBIT)
    if entry.eligibility.found:
        told = f"prohibited circumstance of {entry.id}: {', '.join(entry.eligibility.found)}"
        return Refusal("resource.prohibited", told, PROHIBIT)
    return None


def consent_refusal(entry: EntryExtract, consents: Sequence[SourceConsent], now: datetime) -> Refusal | None:
    """Refuse shared data without a valid consent of its original provider; a later revocation ends a consent."""
    if entry.origin == "own":
        return None
    mine = [c for c in consents if (c.resource, c.owner, c.provider) == (entry.id, entry.owner, entry.provider)]
    last = max(mine, key=lambda c: (c.stated_at, c.state == "revoked"), default=None)
    if last is None or last.state != "given" or last.not_after <= now:
        told = f"expected the valid consent of {entry.provider}, from which {entry.id} was obtained"
        return Refusal("resource.source_consent", told, SOURCE_CONSENT)
    return None


@dataclass(frozen=True, slots=True)
class Listed:
    """One resource of the level's catalogue as a request meets it.

    Attributes:
        state: of the case.
        entry: the extract in force.
        consents: statements of its original provider.
    """

    state: str
    entry: EntryExtract
    consents: tuple[SourceConsent, ...] = ()


def use_refusal(
    uses: Iterable[ResourceUse],
    catalogue: Mapping[str, Listed],
    *,
    tasks: Sequence[str],
    limits: Thresholds,
    now: datetime,
) -> Refusal | None:
    """Say why a list of resources may not be granted, or None.

    Every dataset is a catalogue id and version; the highest grade of all of them decides on the controls.
    """
    grades: list[str] = []
    for use in uses:
        listed = catalogue.get(use.resource)
        if listed is None or listed.state not in USABLE or listed.entry.version != use.version:
            known = f"the catalogue holds {listed.entry.version} ({listed.state})" if listed else "it is not catalogued"
            told = f"expected {use.resource} version {use.version} in the catalogue and in scope, {known}"
            attribute = (
                attribute_refusal(listed.entry) if listed and listed.state in {"confirmed", "excluded"} else None
            )
            return attribute or Refusal(CATALOGUE_MISS, told, UNIFIED)
        entry = listed.entry
        unknown = sorted(set(use.columns) - {column.name for column in entry.columns})
        if unknown:
            return Refusal(CATALOGUE_MISS, f"{use.resource} has no {', '.join(unknown[:5])} in the catalogue", UNIFIED)
        refusal = attribute_refusal(entry) or eligibility_refusal(entry) or consent_refusal(entry, listed.consents, now)
        if refusal is not None:
            return refusal
        grades += entry.grades_of(use.columns).values()
    return grade_refusal(grades, tasks=tasks, limits=limits)


def grade_refusal(grades: Sequence[str], *, tasks: Sequence[str], limits: Thresholds) -> Refusal | None:
    """Refuse what the controls of the highest grade involved do not allow."""
    controls = controls_for(grades)
    if controls is None:
        return Refusal(
            "catalogue.grade", "expected every column graded general or important; none core, none empty", GRADED
        )
    broken = controls.broken_by(tasks, limits)
    return Refusal("catalogue.grade", broken, GRADED) if broken else None


@dataclass(frozen=True, slots=True)
class Unbound:
    """An entry in scope that no node has bound yet: how many days it has waited."""

    resource: str
    owner: str
    age_days: int


def unbound(in_scope_since: Mapping[str, tuple[str, date]], bound: frozenset[str], today: date) -> list[Unbound]:
    """Return entries in scope without a live dataset, the oldest first (supply report)."""
    waiting = [
        Unbound(resource, owner, (today - since).days)
        for resource, (owner, since) in in_scope_since.items()
        if resource not in bound
    ]
    return sorted(waiting, key=lambda item: (-item.age_days, item.resource))


Dependant = tuple[Literal["grant", "registration", "agreement"], str]
"""Kind and name of a case that depends on an entry."""
