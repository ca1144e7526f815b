"""Answers to queries: each kind has one fixed answer, and none of them reads a row for the asker.

Bodies and attachments, by kind (answer after the arrow):

- ``node.describe`` ``{}`` → ``{node, organisation, tasks, resources: [public extract + state + quality]}``
- ``trust.update`` ``{names: […]}`` + that many files → ``{versions, expires_at}``
- ``grant.offer`` ``{}`` + registrars' envelopes → ``{grant_id, grant_sha256, state}``
- ``grant.status`` ``{grant_sha256}`` or ``{grant_id}`` → ``{grant_id, grant_sha256, state, reason, uses_max,
  uses_left, budget_unit, budget_left}`` + this department's envelope once it approved
- ``resource.statement`` ``{resource}`` → ``{resource, version, statement_sha256}`` + envelope
- ``quality.report`` ``{resource}`` → ``{resource, report_sha256}`` + envelope
- ``quality.feedback`` ``{resource, product, party, reference, text}`` → ``{ticket, state, due_on}``
- ``quality.ticket`` ``{reference}`` → ``{tickets: [{ticket, resource, state, severity, due_on, overdue, …}]}``
- ``statement.countersign`` see ``nodes.countersign``
- ``statement.sm2`` ``{}`` + envelopes of this node → ``{signed}`` + one SM2 envelope each
- ``ledger.extract`` ``{session_id}`` → ``{entries: [{seq, kind, sha256}]}``
- ``session.position`` ``{session_id}`` → ``{sequence}``, of an open session that names the asker

Privacy: catalogue extracts, digests, vetted quality aggregates and signatures. Addresses, samples and
exact row counts are in none of them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nodes import tables, tickets
from nodes.agent.refusing import RefusedError
from nodes.agent.resources import catalogue_of, facts_of, uses_of
from nodes.books import ResourceRecord
from nodes.catalogue_entries import CatalogueEntry
from nodes.contract import gm
from nodes.contract.errors import ContractError
from nodes.contract.messages import Query, QueryKind, RefusalCode
from nodes.contract.signing import Envelope, sign
from nodes.contract.statement import PAYLOAD_TYPE, time_text
from nodes.countersign import countersign
from nodes.errors import BooksError, CatalogueError, GrantError, TableError, TicketError, TrustError, TrustRollbackError
from nodes.grants import approve, check_offer, find, misfits
from nodes.statements import CODE_VERSION, code_tree_sha256, resource_statement

if TYPE_CHECKING:
    from nodes.agent.handle import Agent

FEEDBACK_CHARACTERS_MAX = 2_000
_NAME_MAX = 200
Answer = tuple[dict[str, Any], tuple[bytes, ...]]


def answer_query(  # noqa: C901, PLR0911, PLR0912  one per kind
    agent: "Agent", query: Query, attachments: Sequence[bytes]
) -> Answer:
    """Return body and attachments of the answer.

    Raises:
        RefusedError: an unknown kind, a wrong body, or nothing to answer with.
    """
    match query.kind:
        case QueryKind.DESCRIBE:
            return _describe(agent), ()
        case QueryKind.TRUST_UPDATE:
            return _trust_update(agent, query, attachments), ()
        case QueryKind.GRANT_OFFER:
            return _grant_offer(agent, query, attachments), ()
        case QueryKind.GRANT_STATUS:
            return _grant_status(agent, query)
        case QueryKind.RESOURCE_STATEMENT:
            return _resource_statement(agent, query)
        case QueryKind.QUALITY_REPORT:
            return _quality_report(agent, query)
        case QueryKind.QUALITY_FEEDBACK:
            return _feedback(agent, query), ()
        case QueryKind.QUALITY_TICKET:
            return _tickets(agent, query), ()
        case QueryKind.COUNTERSIGN:
            return countersign(agent, query, attachments)
        case QueryKind.SM2_SIGN:
            return _sm2_sign(agent, attachments)
        case QueryKind.LEDGER_EXTRACT:
            entries = agent.books.entries(session=text_field(query, "session_id"))
            return {"entries": [{"seq": e.seq, "kind": e.kind, "sha256": e.sha256} for e in entries]}, ()
        case QueryKind.SESSION_POSITION:
            return _position(agent, query), ()
        case _:
            raise RefusedError(RefusalCode.KIND_UNKNOWN, f"expected one of {', '.join(QueryKind)}")


def _position(agent: "Agent", query: Query) -> dict[str, Any]:
    opened = agent.sessions.get(text_field(query, "session_id"))
    if opened is None or query.sender not in {opened.order.operator, *opened.order.clients}:
        raise RefusedError(RefusalCode.SESSION_UNKNOWN, "expected an open session that names you; ask for a new one")
    return {"sequence": opened.sequence.get(query.sender, 0)}


def text_field(query: Query, name: str) -> str:
    """Return a text field of a query's body.

    Raises:
        RefusedError: missing, or not text.
    """
    value = query.body.get(name)
    if not isinstance(value, str) or not value:
        raise RefusedError(RefusalCode.MALFORMED, f"expected {name} as text in a query of kind {query.kind}")
    return value


def _describe(agent: "Agent") -> dict[str, Any]:
    resources = []
    for entry in _catalogue(agent).values():
        record = agent.books.resource(entry.id)
        facts, _ = facts_of(
            entry,
            record,
            settings=agent.settings,
            commitment_key=agent.keys.commitment,
            overdue=tickets.overdue(agent.books, entry.id),
        )
        stale = facts.fresh_until is not None and agent.now() >= facts.fresh_until
        resources.append(
            {
                **entry.public_extract(),
                "state": "stale" if stale and facts.state == "active" else facts.state,
                "quality": _quality_facts(record),
            }
        )
    return {
        "node": agent.settings.id,
        "organisation": agent.settings.organisation,
        "title_zh": agent.settings.title_zh,
        "title_en": agent.settings.title_en,
        "tasks": sorted(agent.tasks),
        "code": {"version": CODE_VERSION, "tree_sha256": code_tree_sha256()},
        "resources": resources,
    }


def _quality_facts(record: ResourceRecord | None) -> dict[str, Any]:
    if record is None or record.score_x100 is None:
        return {}
    return {
        "score_x100": record.score_x100,
        "grade": record.grade,
        "report_sha256": record.report_sha256,
        "assessed_at": time_text(record.assessed_at) if record.assessed_at else "",
    }


def _trust_update(agent: "Agent", query: Query, attachments: Sequence[bytes]) -> dict[str, Any]:
    names = query.body.get("names")
    if not isinstance(names, list) or len(names) != len(attachments) or not all(isinstance(n, str) for n in names):
        raise RefusedError(RefusalCode.MALFORMED, "expected `names` with one file name for each attachment")
    before = agent.trust.current().versions
    try:
        trust = agent.trust.update(dict(zip(names, attachments, strict=True)), now=agent.now())
    except TrustRollbackError as error:
        raise RefusedError(RefusalCode.TRUST_INVALID, f"{error}: a rollback is refused") from error
    except TrustError as error:
        raise RefusedError(RefusalCode.TRUST_INVALID, str(error)) from error
    if trust.versions != before:
        agent.books.record("trust.updated", actor=query.sender, facts={"versions": dict(trust.versions)})
    return {"versions": dict(trust.versions), "expires_at": time_text(trust.expires_at)}


def _grant_offer(agent: "Agent", query: Query, attachments: Sequence[bytes]) -> dict[str, Any]:
    trust = agent.trust.current()
    try:
        digest, grant, good = check_offer(attachments, node=agent.settings.id, trust=trust, now=agent.now())
        payload = _payload(good[0])
        record = agent.books.offer_grant(digest, grant.grant_id, payload, good, actor=query.sender)
        if agent.settings.auto_approve_grants and record.state == "pending":
            catalogue = _catalogue(agent)
            uses = uses_of(catalogue, agent.books, trust=trust)
            if not misfits(grant, node=agent.settings.id, catalogue=catalogue, uses=uses):
                record = approve(
                    agent.books,
                    digest,
                    key=agent.keys.statement,
                    node=agent.settings.id,
                    catalogue=catalogue,
                    uses=uses,
                    reason="auto_approve_grants",
                )
    except (GrantError, BooksError) as error:
        raise RefusedError(RefusalCode.GRANT_INVALID, str(error)) from error
    return {"grant_id": record.grant_id, "grant_sha256": record.sha256, "state": record.state}


def _payload(envelope: bytes) -> bytes:
    return Envelope.from_bytes(envelope).payload


def _grant_status(agent: "Agent", query: Query) -> Answer:
    name = query.body.get("grant_sha256") or query.body.get("grant_id")
    if not isinstance(name, str):
        raise RefusedError(RefusalCode.MALFORMED, "expected grant_sha256 or grant_id as text")
    try:
        record = find(agent.books, name)
    except GrantError as error:
        raise RefusedError(RefusalCode.GRANT_UNKNOWN, "expected a grant that was offered to this node") from error
    from nodes.contract.statement import parse_grant

    grant = parse_grant(record.payload)
    body = {
        "grant_id": record.grant_id,
        "grant_sha256": record.sha256,
        "state": record.state,
        "reason": record.reason,
        "uses_max": grant.uses_max,
        "uses_left": max(0, grant.uses_max - agent.books.uses(record.sha256)),
        "budget_unit": grant.budget.unit,
        "budget_left": max(0, grant.budget.total - agent.books.spent(record.sha256)),
    }
    return body, ((record.own,) if record.state == "approved" and record.own is not None else ())


def _resource_statement(agent: "Agent", query: Query) -> Answer:
    entry, record = _assessed(agent, text_field(query, "resource"))
    name = f"resource/{entry.id}@{entry.version}/{record.report_sha256}"
    kept = agent.books.statement(name, entry.digest_hex)
    if kept is None:
        facts, value = facts_of(
            entry,
            record,
            settings=agent.settings,
            commitment_key=agent.keys.commitment,
            overdue=tickets.overdue(agent.books, entry.id),
        )
        if facts.state != "active":
            raise RefusedError(RefusalCode.RESOURCE_HELD, facts.reason or f"{entry.id} is {facts.state}")
        try:
            band = tables.rows_band(tables.row_count(entry, agent.settings.home))
        except TableError as error:
            raise RefusedError(RefusalCode.RESOURCE_MISSING, f"the table of {entry.id} cannot be read") from error
        payload = resource_statement(
            entry,
            record,
            holder=agent.settings.id,
            organisation=agent.settings.organisation,
            rows_band=band,
            commitment=value,
            stated_at=agent.now(),
        )
        kept = sign(agent.keys.statement, PAYLOAD_TYPE, payload).to_bytes()
        # Kept under the entry's digest: asked again about the same entry and report, the same bytes answer.
        agent.books.keep_statement(name, entry.digest_hex, kept)
    digest = Envelope.from_bytes(kept).payload_sha256
    return {"resource": entry.id, "version": entry.version, "statement_sha256": digest}, (kept,)


def _feedback(agent: "Agent", query: Query) -> dict[str, Any]:
    """File what users of a product found wrong; the text goes into a private file, its digest into the ledger."""
    product, text = text_field(query, "product"), text_field(query, "text")
    party = text_field(query, "party").strip()
    if not party:
        raise RefusedError(RefusalCode.MALFORMED, "expected who found it; nothing is taken anonymously")
    if len(text) > FEEDBACK_CHARACTERS_MAX or len(product) > _NAME_MAX:
        raise RefusedError(RefusalCode.MALFORMED, f"expected a text of at most {FEEDBACK_CHARACTERS_MAX} characters")
    try:
        ticket = tickets.file_ticket(
            agent.books,
            agent.settings.home / "tickets",
            kind="feedback",
            resource=text_field(query, "resource"),
            known=list(_catalogue(agent)),
            party=f"{party[:_NAME_MAX]} via {query.sender}",
            text=f"{product}\n{text}",
            reference=text_field(query, "reference")[:_NAME_MAX],
            now=agent.now(),
        )
    except TicketError as error:
        raise RefusedError(RefusalCode.MALFORMED, str(error)) from error
    return {"ticket": ticket.id, "state": ticket.state, "due_on": ticket.due_on.isoformat()}


def _tickets(agent: "Agent", query: Query) -> dict[str, Any]:
    """Say where the tickets of one feedback stand; whoever knows its reference filed it."""
    reference, today = text_field(query, "reference"), tickets.day_of(agent.now())
    found = [ticket for ticket in tickets.read(agent.books) if ticket.reference == reference]
    keys = ("resource", "state", "severity", "due_on", "overdue", "closed_report")
    rows = [(ticket.id, ticket.to_json(today)) for ticket in found]
    return {"tickets": [{"ticket": name, **{key: row[key] for key in keys}} for name, row in rows]}


def _sm2_sign(agent: "Agent", attachments: Sequence[bytes]) -> Answer:
    """Sign again, with SM2, statements that carry this node's own valid signature; nothing new is vouched for."""
    if agent.keys.sm2 is None:
        raise RefusedError(RefusalCode.NOT_ALLOWED, "this node has no SM2 key; its officer makes one at `init --gm`")
    keys = {key.keyid: key for key in agent.own_keys(agent.trust.current())}
    signed = []
    for data in attachments:
        try:
            envelope = Envelope.from_bytes(data)
            envelope.open(keys[envelope.keyid], PAYLOAD_TYPE)
        except (ContractError, KeyError) as error:
            raise RefusedError(RefusalCode.NOT_ALLOWED, "expected statements that this node has signed") from error
        signed.append(gm.countersign(agent.keys.sm2, envelope))
    return {"signed": len(signed)}, tuple(signed)


def _quality_report(agent: "Agent", query: Query) -> Answer:
    entry, record = _assessed(agent, text_field(query, "resource"))
    for digest, _, envelope in agent.books.reports(entry.id):
        if digest == record.report_sha256:
            return {"resource": entry.id, "report_sha256": digest}, (envelope,)
    raise RefusedError(RefusalCode.RESOURCE_HELD, f"{entry.id} has no quality report yet; its officer runs one")


def _assessed(agent: "Agent", resource: str) -> tuple[CatalogueEntry, ResourceRecord]:
    entry = _catalogue(agent).get(resource)
    if entry is None:
        raise RefusedError(RefusalCode.RESOURCE_MISSING, "expected a resource of this node's catalogue")
    record = agent.books.resource(resource)
    if record is None and not agent.settings.quality_required:
        record = ResourceRecord(resource, entry.version, "active", "", entry.schema_sha256)
    if record is None:
        raise RefusedError(RefusalCode.RESOURCE_HELD, f"{resource} has no quality run yet; its officer runs one")
    return entry, record


def _catalogue(agent: "Agent") -> dict[str, CatalogueEntry]:
    try:
        return catalogue_of(agent.settings)
    except CatalogueError as error:
        raise RefusedError(
            RefusalCode.RESOURCE_MISSING, "the node's catalogue cannot be read; ask its officer"
        ) from error
