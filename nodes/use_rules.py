"""What the law asks of a resource before an order reads it: attribute, grade, consent, personal information. Pure.

The facts come from the catalogue entry and the node's registers; ``nodes.policy`` calls ``denials``
on every order, ``nodes.grants`` before the department signs a grant.

Source:
    Regulations CAT-ATTR (GD-11-4), ELIG-PROHIBIT (SD-05-4), ELIG-SECRET (JN-02-2), ELIG-SRCCONSENT
    (GD-11-10), CLS-GRADE (GD-34-3), CONSENT (GD-25-5), PI-MECH (JN-19-2), PI-PROTECT (SD-31-5).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from nodes.contract.catalogue import IN_SCOPE, EntryExtract, SourceConsent, controls_for
from nodes.contract.grant import Thresholds
from nodes.contract.messages import RefusalCode, ResourceUse


@dataclass(frozen=True, slots=True)
class Basis:
    """One line of the register of personal information (PI-MECH).

    Attributes:
        id: name in the register.
        resource: catalogue id.
        purpose: purpose code it holds for.
        columns: scope.
        kind: ``consent`` of each subject, ``anonymised`` by a passed effect test, or ``legal`` duty or power.
        group: whose information it is.
        reference: document or article behind it.
        subject: column whose value points to the subject, for consent.
        not_after: end.
    """

    id: str
    resource: str
    purpose: str
    columns: tuple[str, ...]
    kind: str
    group: str
    reference: str
    subject: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class UseFacts:
    """What the node knows of one resource beside its table.

    Attributes:
        entry: public extract of the entry.
        consents: statements of the original provider that verified.
        bases: register lines of the resource.
        anonymous: names of ``anonymised`` bases whose effect test passed on the table as it is now.
    """

    entry: EntryExtract
    consents: tuple[SourceConsent, ...] = ()
    bases: tuple[Basis, ...] = ()
    anonymous: frozenset[str] = frozenset()


def denials(
    use: ResourceUse, facts: UseFacts, *, purpose: str, tasks: Sequence[str], limits: Thresholds, now: datetime
) -> Iterator[tuple[RefusalCode, str]]:
    """Return why the resource may not be used like this, the gravest first.

    Args:
        use: columns and row filter.
        facts: what the node knows.
        purpose: of order or grant.
        tasks: that shall run.
        limits: of the grant.
        now: the node's clock.
    """
    entry = facts.entry
    if entry.secrecy != "none":
        yield RefusalCode.RESOURCE_ATTRIBUTE, f"{entry.id} is a state secret and is not operated"
    if entry.operation_attribute not in IN_SCOPE:
        marked = entry.operation_attribute or "not marked"
        yield RefusalCode.RESOURCE_ATTRIBUTE, f"expected {entry.id} marked open or conditional, it is {marked}"
    if entry.eligibility is None:
        yield RefusalCode.RESOURCE_ATTRIBUTE, f"expected a check of {entry.id} for prohibited circumstances"
    elif entry.eligibility.found:
        found = ", ".join(entry.eligibility.found)
        yield RefusalCode.RESOURCE_ATTRIBUTE, f"a prohibited circumstance stands against {entry.id}: {found}"
    yield from _graded(use, entry, tasks, limits)
    if entry.origin == "shared" and not is_consented(facts.consents, entry, now):
        yield (
            RefusalCode.RESOURCE_CONSENT,
            f"expected the consent of {entry.provider}, from which {entry.id} was obtained; ask it for one",
        )
    yield from _personal(use, facts, purpose, now)


def is_consented(consents: Sequence[SourceConsent], entry: EntryExtract, now: datetime) -> bool:
    """Whether the provider's latest statement about the entry is a consent that still runs."""
    mine = [c for c in consents if (c.resource, c.owner, c.provider) == (entry.id, entry.owner, entry.provider)]
    if not mine:
        return False
    last = max(mine, key=lambda c: (c.stated_at, c.state == "revoked"))
    return last.state == "given" and now < last.not_after


def personal_columns(use: ResourceUse, entry: EntryExtract) -> tuple[str, ...]:
    """Return the columns of a use, filter included, that are personal information."""
    named = {*use.columns, *(condition.column for condition in use.row_filter)}
    return tuple(column.name for column in entry.columns if column.name in named and column.personal != "none")


def basis_for(use: ResourceUse, facts: UseFacts, *, purpose: str, now: datetime) -> Basis | None:
    """Return the register line that covers every personal column of a use, or None."""
    wanted = set(personal_columns(use, facts.entry))
    for basis in facts.bases:
        in_force = basis.purpose == purpose and now < basis.not_after and wanted <= set(basis.columns)
        if in_force and (basis.kind != "anonymised" or basis.id in facts.anonymous):
            return basis
    return None


def _graded(
    use: ResourceUse, entry: EntryExtract, tasks: Sequence[str], limits: Thresholds
) -> Iterator[tuple[RefusalCode, str]]:
    named = [*use.columns, *(condition.column for condition in use.row_filter)]
    grades = entry.grades_of(named)
    controls = controls_for(grades.values())
    if controls is None:
        wrong = sorted(name for name, grade in grades.items() if grade not in {"general", "important"})
        named_wrong = ", ".join(wrong[:5])[:300]
        told = f"expected columns of {entry.id} graded general or important, {named_wrong} is ungraded or core"
        yield RefusalCode.RESOURCE_GRADE, told
        return
    broken = controls.broken_by(tasks, limits)
    if broken:
        yield RefusalCode.RESOURCE_GRADE, f"{broken}; {entry.id} is such data"


def _personal(use: ResourceUse, facts: UseFacts, purpose: str, now: datetime) -> Iterator[tuple[RefusalCode, str]]:
    named = personal_columns(use, facts.entry)
    if named and basis_for(use, facts, purpose=purpose, now=now) is None:
        told = f"{', '.join(named[:5])[:300]} of {facts.entry.id} is personal information and the register has no line"
        yield RefusalCode.PERSONAL_BASIS, f"{told} for it and this purpose; its officer adds one"
