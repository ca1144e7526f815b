"""Tickets: problem data is put right by a deadline, or the resource is held.

Four kinds, one life. A *rectification* opens by itself for every rule that fails in a quality run.
*Feedback* (agency, operator, application unit) and an *objection* (anyone with a name) are filed
about a resource and decided by its officer with a reason; accepted, they are put right like a
rectification. A *dispute* climbs a fixed ladder, one level at a time.

    filed ──accept──> open ──a later run passes──> closed
      └────reject───> rejected        └─ after its day: overdue; the resource is held

Every step is an entry of the node's hash-chained ledger; a ticket is what its entries add up to, so
none can be altered or dropped. Texts that people write may quote a row: the ledger has their
digest, the text is a file of the department (mode 0600).

Source:
    Regulations Q-CORRECT, Q-RECTIFY, Q-FEEDBACK, Q-OBJECTION (SD-08, JN-14, JN-16, GD-14), DISPUTE
    (GD-13: data administration, then government of the level). Deadlines: the texts say "prescribed"
    and "prompt"; Qingdao's objection rules give 5 working days, 10 for complex cases.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nodes.books import Books, LedgerEntry
from nodes.contract.signing import sha256_hex
from nodes.contract.working_days import add_working_days
from nodes.errors import StorageError, TicketError

Kind = Literal["rectification", "feedback", "objection", "dispute"]
State = Literal["filed", "open", "rejected", "closed"]
Severity = Literal["critical", "major", "minor"]

WORKING_DAYS: Mapping[Severity, int] = {"critical": 5, "major": 10, "minor": 20}
FILED_KINDS = ("feedback", "objection", "dispute")
ANSWER_WORKING_DAYS = 5
"""For the decision on what was filed."""
LADDER = ("department", "data-administration", "government")
"""Levels of a dispute, lowest first."""
SESSION = "tickets"
"""Under which the ledger keeps the entries of tickets together."""
_CHINA = timezone(timedelta(hours=8), "Asia/Shanghai")


@dataclass(frozen=True, slots=True)
class Ticket:
    """One ticket as its ledger entries add up.

    Attributes:
        id: ``T-0001`` and so on, by node.
        kind: what it came from.
        resource: catalogue id.
        rule: of the suite; empty: the resource as a whole.
        severity: decides the deadline.
        state: where it stands; ``overdue`` follows from ``due_on`` and the day.
        opened_on: day of the first entry, in China.
        due_on: last day; of something filed the last day to decide it.
        provisional: the deadline lies in a year whose holidays are not decreed yet.
        party: who filed it; empty for a rectification.
        text_sha256: of what was written when it was filed, or empty.
        level: of a dispute, one of ``LADDER``.
        opened_report, closed_report: digests of the quality reports between which it was put right.
        reference: name that the sender gave to what arrived by message; the same one twice is one ticket.
    """

    id: str
    kind: Kind
    resource: str
    rule: str
    severity: Severity
    state: State
    opened_on: date
    due_on: date
    provisional: bool = False
    party: str = ""
    text_sha256: str = ""
    level: str = ""
    opened_report: str = ""
    closed_report: str = ""
    reference: str = ""

    def is_overdue(self, today: date) -> bool:
        """Whether its day has passed and nothing is decided or put right."""
        return self.state in {"filed", "open"} and today > self.due_on

    def to_json(self, today: date) -> dict[str, Any]:
        """Return what commands print."""
        return {
            "id": self.id, "kind": self.kind, "resource": self.resource, "rule": self.rule, "severity": self.severity,
            "state": self.state, "overdue": self.is_overdue(today), "opened_on": self.opened_on.isoformat(),
            "due_on": self.due_on.isoformat(), "provisional": self.provisional, "party": self.party,
            "level": self.level, "text_sha256": self.text_sha256, "opened_report": self.opened_report,
            "closed_report": self.closed_report, "reference": self.reference,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """How one rule went in a run: ``pass``, ``fail``, ``error`` or ``not_assessed``."""

    rule: str
    severity: Severity
    status: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run does to the tickets of its resource."""

    opened: tuple[Ticket, ...]
    closed: tuple[Ticket, ...]
    kept: tuple[Ticket, ...]


def day_of(moment: datetime) -> date:
    """Return the calendar day in China."""
    return moment.astimezone(_CHINA).date()


def read(books: Books) -> list[Ticket]:
    """Return all tickets of a node, oldest first."""
    return fold(books.entries(session=SESSION))


def fold(entries: Sequence[LedgerEntry]) -> list[Ticket]:
    """Return what ledger entries of tickets add up to."""
    found: dict[str, Ticket] = {}
    for entry in entries:
        facts = entry.facts
        name = str(facts["ticket"])
        match entry.kind:
            case "ticket.filed" | "ticket.opened":
                found[name] = _new(entry)
            case "ticket.accepted":
                found[name] = replace(
                    found[name],
                    state="open",
                    severity=cast(Severity, facts["severity"]),
                    due_on=date.fromisoformat(str(facts["due_on"])),
                    provisional=bool(facts["provisional"]),
                )
            case "ticket.rejected":
                found[name] = replace(found[name], state="rejected")
            case "ticket.escalated":
                found[name] = replace(
                    found[name], level=str(facts["level"]), due_on=date.fromisoformat(str(facts["due_on"]))
                )
            case "ticket.closed":
                found[name] = replace(found[name], state="closed", closed_report=str(facts["report_sha256"]))
            case _:
                raise TicketError(f"expected an entry of a ticket, got {entry.kind}")
    return list(found.values())


def overdue(books: Books, resource: str, *, now: datetime | None = None) -> list[Ticket]:
    """Return the tickets of a resource whose day has passed; they hold it. Disputes hold nothing while they last."""
    today = day_of(now or datetime.now(UTC))
    mine = [ticket for ticket in read(books) if ticket.resource == resource and ticket.kind != "dispute"]
    return [ticket for ticket in mine if ticket.is_overdue(today)]


def after_run(
    tickets: Sequence[Ticket], resource: str, outcomes: Sequence[RuleOutcome], *, passed: bool, today: date
) -> Changes:
    """Say which tickets a run opens and closes. Pure.

    A rule that fails or cannot be run opens a rectification unless one is open for it; a rule that
    passes closes what is open for it. A rule that was not assessed changes nothing. A run in which
    everything passed closes what is open for the resource as a whole.
    """
    mine = [ticket for ticket in tickets if ticket.resource == resource and ticket.state == "open"]
    status = {outcome.rule: outcome.status for outcome in outcomes}
    closed = [
        ticket
        for ticket in mine
        if ticket.kind != "dispute" and (status.get(ticket.rule) == "pass" if ticket.rule else passed)
    ]
    known = {ticket.rule for ticket in mine}
    opened = []
    number = len(tickets)
    for outcome in outcomes:
        if outcome.status in {"fail", "error"} and outcome.rule not in known:
            number += 1
            due_on, provisional = add_working_days(today, WORKING_DAYS[outcome.severity])
            opened.append(
                Ticket(
                    f"T-{number:04d}", "rectification", resource, outcome.rule, outcome.severity, "open", today,
                    due_on, provisional,
                )
            )  # fmt: skip
    kept = [ticket for ticket in mine if ticket not in closed]
    return Changes(tuple(opened), tuple(closed), tuple(kept))


def record_changes(books: Books, changes: Changes, *, report_sha256: str) -> None:
    """Write what a run did to the tickets, with the digest of its report; in a transaction of the caller's, if any."""
    with books.transaction():
        for ticket in changes.opened:
            _record(books, "ticket.opened", {**_opening(ticket), "report_sha256": report_sha256})
        for ticket in changes.closed:
            _record(books, "ticket.closed", {"ticket": ticket.id, "report_sha256": report_sha256})


def file_ticket(
    books: Books,
    folder: Path,
    *,
    kind: str,
    resource: str,
    known: Sequence[str],
    party: str,
    text: str,
    rule: str = "",
    reference: str = "",
    now: datetime,
) -> Ticket:
    """File feedback, an objection or a dispute about a resource.

    Args:
        books: of the node.
        folder: where the text is kept.
        kind: ``feedback``, ``objection`` or ``dispute``.
        resource: catalogue id.
        known: catalogue ids of the node.
        party: organisation or actor that files it.
        text: what is wrong, in its words.
        rule: rule it is about, or empty.
        reference: of the sender, if it arrived by message; filed before, its ticket is returned as it stands.
        now: the node's clock.

    Raises:
        TicketError: another kind, nobody's name, no text, or a resource this node does not have.
        StorageError: the disk refused.
    """
    if kind not in FILED_KINDS:
        raise TicketError(f"expected one of {', '.join(FILED_KINDS)}")
    if not party.strip() or not text.strip():
        raise TicketError("expected who files it and what is wrong; nothing is taken anonymously or without a reason")
    if resource not in known:
        raise TicketError(f"expected a resource of this node, {resource} is none; see `shufang-node catalogue`")
    today = day_of(now)
    due_on, provisional = add_working_days(today, ANSWER_WORKING_DAYS)
    with books.transaction():
        known_tickets = read(books)
        for earlier in known_tickets:
            if reference and (earlier.reference, earlier.resource) == (reference, resource):
                return earlier
        ticket = Ticket(
            f"T-{len(known_tickets) + 1:04d}", cast(Kind, kind), resource, rule, "major", "filed", today, due_on,
            provisional, party.strip(), keep_text(folder, text), LADDER[0] if kind == "dispute" else "",
            reference=reference,
        )  # fmt: skip
        _record(books, "ticket.filed", _opening(ticket))
    return ticket


def decide(
    books: Books, folder: Path, name: str, *, accept: bool, reason: str, severity: str = "major", now: datetime
) -> Ticket:
    """Accept or reject what was filed, with a reason.

    Raises:
        TicketError: no reason, another severity, no such ticket, or nothing to decide.
    """
    if severity not in WORKING_DAYS:
        raise TicketError(f"expected one of {', '.join(WORKING_DAYS)}")
    if not reason.strip():
        raise TicketError("expected a reason; a decision without one is not kept")
    with books.transaction():
        ticket = find(books, name)
        if ticket.state != "filed":
            raise TicketError(f"expected {name} to await a decision, it is {ticket.state}")
        facts: dict[str, Any] = {"ticket": name, "reason_sha256": keep_text(folder, reason)}
        if accept:
            due_on, provisional = add_working_days(day_of(now), WORKING_DAYS[cast(Severity, severity)])
            facts |= {"severity": severity, "due_on": due_on.isoformat(), "provisional": provisional}
        _record(books, "ticket.accepted" if accept else "ticket.rejected", facts)
        return find(books, name)


def escalate(books: Books, folder: Path, name: str, *, to: str, reason: str, now: datetime) -> Ticket:
    """Take a dispute that its level cannot settle to the next one.

    Raises:
        TicketError: no reason, no dispute, settled already, or a level left out.
    """
    if not reason.strip():
        raise TicketError("expected a reason why this level cannot settle it")
    with books.transaction():
        ticket = find(books, name)
        if ticket.kind != "dispute" or ticket.state not in {"filed", "open"}:
            raise TicketError(f"expected an unsettled dispute, {name} is none")
        place = LADDER.index(ticket.level)
        following = LADDER[place + 1] if place + 1 < len(LADDER) else ""
        if not following or to != following:
            told = f"{following} comes after {ticket.level}" if following else f"{ticket.level} is the last level"
            raise TicketError(f"expected the next level and no other: {told}")
        due_on, _ = add_working_days(day_of(now), WORKING_DAYS["major"])
        facts = {"ticket": name, "level": to, "due_on": due_on.isoformat(), "reason_sha256": keep_text(folder, reason)}
        _record(books, "ticket.escalated", facts)
        return find(books, name)


def close(books: Books, name: str) -> Ticket:
    """Close a ticket by the last quality run, which must be later than the ticket and have passed.

    Raises:
        TicketError: no such ticket, not open, or no later run that passed.
    """
    with books.transaction():
        ticket = find(books, name)
        if ticket.state not in {"open", "filed"}:
            raise TicketError(f"expected {name} to be open, it is {ticket.state}")
        if ticket.state == "filed" and ticket.kind != "dispute":
            raise TicketError(f"expected a decision on {name} first")
        since = max(entry.at for entry in books.entries(session=SESSION) if entry.facts["ticket"] == name)
        record = books.resource(ticket.resource)
        later = (
            record is not None
            and record.assessed_at is not None
            and f"{record.assessed_at:%Y-%m-%dT%H:%M:%SZ}" >= since
        )
        if record is None or not later or record.state != "active" or _is_failing(books, ticket):
            raise TicketError(
                f"expected a quality run of {ticket.resource} after {name} that passes; put the table right and run "
                f"`shufang-node quality run {ticket.resource}`"
            )
        _record(books, "ticket.closed", {"ticket": name, "report_sha256": record.report_sha256})
        return find(books, name)


def find(books: Books, name: str) -> Ticket:
    """Return one ticket.

    Raises:
        TicketError: there is none of this name.
    """
    for ticket in read(books):
        if ticket.id == name:
            return ticket
    raise TicketError(f"expected a ticket of this node, {name} is none; see `shufang-node tickets list`")


def keep_text(folder: Path, text: str) -> str:
    """Keep a text that a person wrote in a file only the department can read, and return its digest.

    Raises:
        StorageError: the disk refused.
    """
    content = text.strip().encode("utf-8")
    digest = sha256_hex(content)
    path = folder / f"{digest}.txt"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"expected to be able to write {folder} ({error.strerror})") from error
    return digest


def _is_failing(books: Books, ticket: Ticket) -> bool:
    """Whether a rectification of the same rule is open beside this ticket: the rule fails still."""
    return any(
        other.id != ticket.id and other.rule == ticket.rule and other.resource == ticket.resource
        for other in read(books)
        if other.state == "open" and other.kind == "rectification" and ticket.rule
    ) or (ticket.kind == "rectification")


def _record(books: Books, kind: str, facts: Mapping[str, Any]) -> None:
    books.record(kind, session=SESSION, facts=facts)


def _opening(ticket: Ticket) -> dict[str, Any]:
    return {
        "ticket": ticket.id, "kind": ticket.kind, "resource": ticket.resource, "rule": ticket.rule,
        "severity": ticket.severity, "opened_on": ticket.opened_on.isoformat(), "due_on": ticket.due_on.isoformat(),
        "provisional": ticket.provisional, "party": ticket.party, "text_sha256": ticket.text_sha256,
        "level": ticket.level, "reference": ticket.reference,
    }  # fmt: skip


def _new(entry: LedgerEntry) -> Ticket:
    facts = entry.facts
    if facts["kind"] not in get_args(Kind):
        raise TicketError("expected a kind of ticket in the ledger")
    return Ticket(
        id=str(facts["ticket"]),
        kind=facts["kind"],
        resource=str(facts["resource"]),
        rule=str(facts["rule"]),
        severity=facts["severity"],
        state="open" if entry.kind == "ticket.opened" else "filed",
        opened_on=date.fromisoformat(str(facts["opened_on"])),
        due_on=date.fromisoformat(str(facts["due_on"])),
        provisional=bool(facts["provisional"]),
        party=str(facts["party"]),
        text_sha256=str(facts["text_sha256"]),
        level=str(facts["level"]),
        opened_report=str(facts.get("report_sha256", "")),
        reference=str(facts.get("reference", "")),
    )
