"""What the node knows of its resources at the moment of an order: catalogue, file and quality state."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from nodes import registers, tables, tickets
from nodes.books import Books, ResourceRecord
from nodes.catalogue_entries import CatalogueEntry, read_catalogue
from nodes.errors import TableChangedError, TableError, TableMissingError
from nodes.policy import ResourceFacts
from nodes.settings import NodeSettings
from nodes.tickets import Ticket
from nodes.trust_store import TrustData
from nodes.use_rules import UseFacts


def catalogue_of(settings: NodeSettings) -> dict[str, CatalogueEntry]:
    """Read the node's catalogue as it stands now.

    Raises:
        CatalogueError: a broken entry.
    """
    return read_catalogue(settings.catalogue)


def facts_of(
    entry: CatalogueEntry,
    record: ResourceRecord | None,
    *,
    settings: NodeSettings,
    commitment_key: bytes,
    overdue: Sequence[Ticket] = (),
) -> tuple[ResourceFacts, str]:
    """Return a resource's facts for the policy and the commitment to its content now.

    Tickets whose day has passed hold the resource as a failed run does.

    The reasons name no local address: they travel to the asker.
    """
    state: Literal["active", "held", "stale", "changed", "missing", "unread"] = "active"
    reason, value = "", ""
    try:
        tables.check_columns(entry, settings.home)
        value = _commitment(entry, record, settings, commitment_key)
    except TableMissingError:
        state, reason = "missing", f"the table of {entry.id} is not there; its officer runs `shufang-node doctor`"
    except TableChangedError:
        state, reason = (
            "changed",
            f"the columns of {entry.id} are no longer those of its catalogue entry; bind it again",
        )
    except TableError:
        state, reason = "unread", f"the table of {entry.id} cannot be read; its officer runs `shufang-node doctor`"
    if state == "active" and record is not None:
        state, reason = _judged(entry, record, value, overdue)
    if not settings.quality_required and state in {"held", "stale"}:
        state, reason = "active", ""
    fresh_until = record.fresh_until if record is not None and settings.quality_required else None
    if record is None and settings.quality_required and state == "active":
        state, reason = (
            "held",
            f"{entry.id} has no quality run yet; its officer runs `shufang-node quality run {entry.id}`",
        )
    score = record.score_x100 if record is not None else None
    return ResourceFacts(entry.version, entry.column_names, state, reason, score, fresh_until), value


def _judged(
    entry: CatalogueEntry, record: ResourceRecord, value: str, overdue: Sequence[Ticket]
) -> tuple[Literal["active", "held", "stale", "changed"], str]:
    """Return state and reason of a table that can be read, by its last quality run and its tickets."""
    if record.version != entry.version or record.schema_sha256 != entry.schema_sha256:
        return "changed", f"{entry.id} changed after its last quality run; its officer runs it again"
    if record.state != "active":
        told = f"{entry.id} is {record.state} after its last quality run ({record.reason})"
        return record.state, f"{told}; put it right and run again"
    if record.commitment and record.commitment != value:
        return "changed", f"the content of {entry.id} changed after its last quality run; run it again"
    if overdue:
        told = f"{overdue[0].id} of {entry.id} is overdue since {overdue[0].due_on}"
        return "held", f"{told}; put it right and run again"
    return "active", ""


def all_facts(
    catalogue: Mapping[str, CatalogueEntry],
    books: Books,
    *,
    names: set[str],
    settings: NodeSettings,
    commitment_key: bytes,
    trust: TrustData,
) -> tuple[dict[str, ResourceFacts], dict[str, str]]:
    """Return facts and commitments of the named resources that the catalogue has."""
    facts: dict[str, ResourceFacts] = {}
    commitments: dict[str, str] = {}
    for name in names & set(catalogue):
        known, commitments[name] = facts_of(
            catalogue[name],
            books.resource(name),
            settings=settings,
            commitment_key=commitment_key,
            overdue=tickets.overdue(books, name),
        )
        facts[name] = replace(known, use=use_facts(catalogue[name], books, trust=trust, commitment=commitments[name]))
    return facts, commitments


def use_facts(entry: CatalogueEntry, books: Books, *, trust: TrustData, commitment: str = "") -> UseFacts:
    """Return what the law asks of a resource, from its entry and the node's registers.

    Args:
        entry: of the catalogue.
        books: with the registers.
        trust: who signs for providers.
        commitment: to the content now; without it no effect test counts.
    """
    bases = books.bases(entry.id)
    return UseFacts(
        entry=entry.extract,
        consents=registers.source_consents(books, entry.id, trust=trust),
        bases=bases,
        anonymous=registers.anonymous(books, bases, commitment),
    )


def uses_of(catalogue: Mapping[str, CatalogueEntry], books: Books, *, trust: TrustData) -> dict[str, UseFacts]:
    """Return ``use_facts`` of every resource, with effect tests that passed on the content last assessed."""
    found = {}
    for name, entry in catalogue.items():
        record = books.resource(name)
        value = record.commitment if record is not None else ""
        found[name] = use_facts(entry, books, trust=trust, commitment=value)
    return found


def _commitment(entry: CatalogueEntry, record: ResourceRecord | None, settings: NodeSettings, key: bytes) -> str:
    if record is not None and record.commitment and record.fingerprint == tables.fingerprint(entry, settings.home):
        return record.commitment
    return tables.commitment(entry, settings.home, key)
