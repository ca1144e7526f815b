"""Joint statements: what this node checks before it signs build provenance, privacy accounting or a release.

Query body ``{grant_sha256, sessions: […], statements: [predicate types], files: [names]}``; attachments:
one statement payload per type, then one product file per name (``files`` may be empty where the files
were scanned before). Answer: ``{signed: [types]}`` and one envelope per statement, in order.

It signs only

- under a grant this department approved, about closed sessions of that grant in its own books;
- provenance that lists those sessions, the grant, this node and its node-run statements' digests;
- accounting whose line for this node equals the books, with limits no weaker than the grant's;
- a release that lists this node, the grant and its node-run statements;
- product files that were attached and hold no identifier or rare text of the resources used.

Privacy: only signatures leave. Whether a file passes tells whether a value in it is one of ours. So nothing is
searched before the statements hold, a refusal names columns and neither value nor count, and after ``STRIKES_MAX``
files with values of ours under one grant nothing more is searched for it: the officer looks into the ledger.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nodes.agent.refusing import RefusedError, require
from nodes.books import GrantRecord, RunRecord
from nodes.catalogue_entries import read_catalogue
from nodes.contract.errors import ContractError
from nodes.contract.grant import Grant
from nodes.contract.messages import Query, RefusalCode
from nodes.contract.signing import sha256_hex, sign
from nodes.contract.statement import BUILD, PAYLOAD_TYPE, PRIVACY, RELEASE, read
from nodes.egress import needles_of, scan
from nodes.errors import CatalogueError, GrantError, TableError
from nodes.grants import check_record
from nodes.policy import decide_step

if TYPE_CHECKING:
    from nodes.agent.handle import Agent

SIGNABLE = (BUILD, PRIVACY, RELEASE)
PRODUCT_PREFIX = "data/product/"

STRIKES_MAX = 3
"""Refused searches under one grant; each could be a guess at a row."""

FILES_MAX = 256
"""Most files searched under one grant: passing tells that nothing in the file is ours."""


def countersign(agent: "Agent", query: Query, attachments: Sequence[bytes]) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """Check joint statements about runs of this node and sign them.

    Raises:
        RefusedError: something in them is not what this node knows, or a file holds a value of its rows.
    """
    if query.sender not in {a.id for a in agent.trust.current().actors.actors if "operator" in a.roles}:
        raise RefusedError(RefusalCode.SENDER_ROLE, "expected the operator to ask for signatures on joint statements")
    types, names, sessions = (_texts(query, name) for name in ("statements", "files", "sessions"))
    if not types or len(types) + len(names) != len(attachments):
        raise RefusedError(RefusalCode.MALFORMED, "expected one attachment for each of `statements` and `files`")
    record, grant = _grant(agent, query)
    runs = [_run(agent, session, record) for session in sessions]
    if not runs:
        raise RefusedError(RefusalCode.NOT_ALLOWED, "expected the sessions that the statements are about")
    payloads, files = attachments[: len(types)], attachments[len(types) :]
    given = {sha256_hex(content): content for content in files}
    allowed = agent.books.scanned(record.sha256) | given.keys()
    for predicate_type, payload in zip(types, payloads, strict=True):
        _check(agent, predicate_type, payload, record=record, grant=grant, runs=runs, scanned=allowed)
    _scan(agent, record, grant, runs, given)
    envelopes = []
    for predicate_type, payload in zip(types, payloads, strict=True):
        name = f"{predicate_type}/{sha256_hex(payload)}"
        kept = agent.books.statement(name, sha256_hex(payload))
        if kept is None:
            kept = sign(agent.keys.statement, PAYLOAD_TYPE, payload).to_bytes()
            agent.books.keep_statement(name, sha256_hex(payload), kept)
        envelopes.append(kept)
    return {"signed": types}, tuple(envelopes)


def _texts(query: Query, name: str) -> list[str]:
    value = query.body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RefusedError(RefusalCode.MALFORMED, f"expected {name} as a list of texts")
    return value


def _grant(agent: "Agent", query: Query) -> tuple[GrantRecord, Grant]:
    digest = query.body.get("grant_sha256")
    record = agent.books.grant(digest) if isinstance(digest, str) else None
    if record is None:
        raise RefusedError(RefusalCode.GRANT_UNKNOWN, "expected grant_sha256 of a grant in this node's books")
    trust = agent.trust.current()
    try:
        grant = check_record(record, own_keys=agent.own_keys(trust), trust=trust)
    except GrantError as error:
        raise RefusedError(RefusalCode.GRANT_INVALID, str(error)) from error
    # Its runs took place inside the window; what was made of them may be signed for after its end, not
    # after it was revoked.
    now = agent.now()
    if now >= trust.expires_at:
        raise RefusedError(RefusalCode.TRUST_STALE, "this node's trust data has expired; bring newer")
    moment = now if now < grant.not_after else grant.not_before
    require(
        decide_step(
            grant,
            grant_sha256=record.sha256,
            status=trust.status,
            trust_expires_at=trust.expires_at,
            grant_state=record.state,
            now=moment,
        )
    )
    return record, grant


def _run(agent: "Agent", session: str, record: GrantRecord) -> RunRecord:
    run = agent.books.run(session)
    if run is None or run.grant_sha256 != record.sha256:
        raise RefusedError(
            RefusalCode.NOT_ALLOWED, "expected only closed sessions of this grant that this node took part in"
        )
    return run


def _scan(
    agent: "Agent", record: GrantRecord, grant: Grant, runs: Sequence[RunRecord], given: Mapping[str, bytes]
) -> None:
    known = agent.books.scanned(record.sha256)
    new = {digest: content for digest, content in given.items() if digest not in known}
    if not new:
        return
    if agent.books.strikes(record.sha256) >= STRIKES_MAX or len(known) + len(new) > FILES_MAX:
        raise RefusedError(
            RefusalCode.NOT_ALLOWED,
            f"expected at most {STRIKES_MAX} searches that find values of this department's rows and {FILES_MAX} files "
            "under one grant; the department's officer finds the reasons in its ledger, ask for a new grant",
        )
    used = {resource for run in runs for resource in run.resources}
    try:
        catalogue = read_catalogue(agent.settings.catalogue)
        needles = needles_of(
            [catalogue[name] for name in sorted(used)], agent.settings.home, group_min=grant.thresholds.cell_min
        )
    except (CatalogueError, TableError, KeyError) as error:
        raise RefusedError(
            RefusalCode.RESOURCE_MISSING,
            "the tables behind these runs cannot be read now, so nothing can be vouched for",
        ) from error
    findings = scan(new.values(), needles)
    if findings:
        told = "; ".join(f"{f.resource} column {f.column}: {f.count} values" for f in findings[:10])
        agent.books.strike(record.sha256, told[:1000])
        where = "; ".join(f"{f.resource} column {f.column}" for f in findings[:10])
        raise RefusedError(
            RefusalCode.NOT_ALLOWED,
            f"expected product files without values of this department's rows, found some of {where}"[:2000],
        )
    agent.books.keep_scans(sorted(new), record.sha256)


def _check(
    agent: "Agent",
    predicate_type: str,
    payload: bytes,
    *,
    record: GrantRecord,
    grant: Grant,
    runs: Sequence[RunRecord],
    scanned: frozenset[str],
) -> None:
    if predicate_type not in SIGNABLE:
        raise RefusedError(RefusalCode.NOT_ALLOWED, "expected build provenance, privacy accounting or a release")
    try:
        subjects, predicate = read(payload, predicate_type)
    except ContractError as error:
        raise RefusedError(RefusalCode.MALFORMED, str(error)) from error
    products = [
        (name, digest) for name, digest in subjects if predicate_type != RELEASE or name.startswith(PRODUCT_PREFIX)
    ]
    if not products or any(digest not in scanned for _, digest in products):
        raise RefusedError(
            RefusalCode.NOT_ALLOWED, "expected every product file of the statement attached, so that it can be searched"
        )
    try:
        if predicate_type == BUILD:
            _check_build(agent, predicate, record, grant, runs)
        elif predicate_type == PRIVACY:
            _check_privacy(agent, predicate, grant, runs)
        else:
            _check_release(agent, predicate, record, grant, runs)
    except (KeyError, TypeError, AttributeError) as error:
        raise RefusedError(
            RefusalCode.MALFORMED, f"expected the fields of {predicate_type} as docs/reference/statements.md lists them"
        ) from error


def _check_build(
    agent: "Agent", predicate: Mapping[str, Any], record: GrantRecord, grant: Grant, runs: Sequence[RunRecord]
) -> None:
    definition = predicate["buildDefinition"]
    outer, inner = definition["externalParameters"], definition["internalParameters"]
    _require(outer["grant"] == {"id": record.grant_id, "sha256": record.sha256}, "the grant of the runs")
    _require(outer["purpose"] == grant.purpose and outer["product_form"] == grant.product_form, "purpose and form")
    listed, mine = set(inner["sessions"]), {run.session for run in runs}
    # Sessions at other nodes alone may stand beside ours, but none of ours may be left out of what we were asked about.
    _require(mine <= listed, "the sessions that it is about")
    _require(all(agent.books.run(name) is None for name in listed - mine), "no further session of this node")
    granted = {party.node for party in grant.parties}
    _require(agent.settings.id in inner["parties"] and set(inner["parties"]) <= granted, "this node among the parties")
    digests = {item["digest"]["sha256"] for item in definition["resolvedDependencies"]}
    _require(all(run.payload_sha256 in digests for run in runs), "the digests of this node's node-run statements")


def _check_privacy(agent: "Agent", predicate: Mapping[str, Any], grant: Grant, runs: Sequence[RunRecord]) -> None:
    lines = [line for line in predicate["ledgers"] if line["node"] == agent.settings.id]
    before, after = min(run.budget_before for run in runs), max(run.budget_after for run in runs)
    _require(
        [(line["before"], line["after"]) for line in lines] == [(before, after)],
        f"the budget of this node from {before} to {after}",
    )
    _require(predicate["unit"] == grant.budget.unit, f"the unit {grant.budget.unit}")
    disclosure, limits = predicate["disclosure"], grant.thresholds
    _require(disclosure["cell_min"] >= limits.cell_min, f"cells of at least {limits.cell_min}")
    base = disclosure["round_base"]
    _require(
        base >= limits.round_base and base % limits.round_base == 0, f"rounding to multiples of {limits.round_base}"
    )
    failed = sorted(str(attack["test"]) for attack in predicate.get("attacks", ()) if attack["ok"] is not True)
    _require(not failed, f"no attack beyond its limit, failed: {', '.join(failed)}")


def _check_release(
    agent: "Agent", predicate: Mapping[str, Any], record: GrantRecord, grant: Grant, runs: Sequence[RunRecord]
) -> None:
    _require(predicate["grant"] == {"id": record.grant_id, "sha256": record.sha256}, "the grant of the runs")
    _require(predicate["product"]["form"] == grant.product_form, f"the form {grant.product_form}")
    _require(agent.settings.id in predicate["participants"], "this node among the participants")
    nodes = {a.id for a in agent.trust.current().actors.actors if "node" in a.roles}
    strangers = (set(predicate["participants"]) & nodes) - {party.node for party in grant.parties}
    _require(not strangers, "only parties of the grant among the participating nodes")
    digests = {item["sha256"] for item in predicate["attestations"]}
    _require(all(run.payload_sha256 in digests for run in runs), "the digests of this node's node-run statements")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise RefusedError(RefusalCode.NOT_ALLOWED, f"expected {what} in the statement")
