"""From a reviewed product to a package: signatures in order, each logged, registrars last.

    1  gather        grant, resource statements, quality reports, runs; all verified
    2  sign_joint    build and privacy statements by operator and nodes; nodes search the files
    3  review        two reviewers sign the bundle (factory.review.review)
    4  store         everything so far into the log: evidence first
    5  register      seven blocks, code
    6  sign_release  operator and nodes, into the log
    7  registrars    each at home, from the release folder (factory.release.registrar)
    8  package       registrars into the log, then products' writer

Every step can be repeated: nodes answer the same statement with the same signature, and the
log stores a statement once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from factory.agency.admission import current_entry
from factory.identity import Identity
from factory.log.log import Log, submissions
from factory.release.dossier import Dossier, Signed, build_statement, privacy_statement
from factory.release.errors import EvidenceMissingError
from factory.release.nodes import NodeDesk
from factory.release.registration import Stored
from factory.trust import Trust
from nodes.contract.errors import ContractError
from nodes.contract.grant import Grant
from nodes.contract.signing import Envelope, sign
from nodes.contract.statement import (
    BUILD,
    GRANT,
    NODE_RUN,
    PAYLOAD_TYPE,
    PRIVACY,
    RELEASE,
    RESOURCE,
    parse_grant,
    read,
)
from products.package.writing import PackageSummary, SignedStatement, write_package

PRERELEASE_PATH = "data/metadata/prerelease.json"


@dataclass(frozen=True, slots=True)
class Gathered:
    """Verified sources of a product.

    Attributes:
        grant: the grant.
        grant_sha256: digest of its payload.
        sources: envelopes of ``grant``, ``resource-…`` and ``run-…``.
        quality_reports: report by resource id.
    """

    grant: Grant
    grant_sha256: str
    sources: dict[tuple[str, str], bytes]
    quality_reports: dict[str, bytes]


def gather(
    desk: NodeDesk, trust: Trust, *, grant_envelopes: Sequence[bytes], runs: Mapping[str, bytes], now: datetime
) -> Gathered:
    """Collect and verify what a product rests on.

    Args:
        desk: asks the nodes.
        trust: verified trust data.
        grant_envelopes: the registrars' envelopes of the grant.
        runs: node-run envelope per node, from ``session.close``.
        now: clock.

    Raises:
        EvidenceMissingError: a signature, statement or report is missing or does not fit.
        NodeRefusedError: a node refuses a statement, e.g. of a held resource.
    """
    sources: dict[tuple[str, str], bytes] = {}
    statement = Envelope.from_bytes(grant_envelopes[0]).payload
    grant, digest = parse_grant(statement), Envelope.from_bytes(grant_envelopes[0]).payload_sha256
    for data in grant_envelopes:
        actor = _signer(data, trust, GRANT, now)
        if Envelope.from_bytes(data).payload != statement or actor not in grant.registrars:
            raise EvidenceMissingError("expected registrars' signatures on one and the same grant")
        sources["grant", actor] = data
    for node, data in desk.grant_signatures([party.node for party in grant.parties], digest).items():
        sources["grant", node] = data
    quality_reports: dict[str, bytes] = {}
    for node, data in sorted(runs.items()):
        if _signer(data, trust, NODE_RUN, now) != node:
            raise EvidenceMissingError(f"expected {node}'s own run statement")
        sources[f"run-{node}", node] = data

    def stated_by(node: str) -> list[tuple[str, bytes, bytes]]:
        found = []
        for used in read(Envelope.from_bytes(runs[node]).payload, NODE_RUN)[1]["resources"]:
            resource = str(used["id"])
            stated = desk.resource_statement(node, resource)
            quality = read(Envelope.from_bytes(stated).payload, RESOURCE)[1]["quality"]
            found.append((resource, stated, desk.quality_report(node, resource, quality["report_sha256"])))
        return found

    for node, rows in desk.each(sorted(runs), stated_by).items():
        for resource, stated, report in rows:
            sources[f"resource-{resource}", node] = stated
            quality_reports[resource] = report
    _require_departments(sources, grant, sorted(runs))
    return Gathered(grant, digest, sources, quality_reports)


def sign_joint(dossier: Dossier, operator: Identity, desk: NodeDesk) -> dict[tuple[str, str], bytes]:
    """Have operator and nodes sign build provenance and privacy account.

    The nodes receive every file below ``data/`` and search it for values of their own rows.

    Raises:
        NodeRefusedError: a node finds a value, or something it does not know.
    """
    build, privacy = build_statement(dossier), privacy_statement(dossier)
    signed = {("build", operator.id): sign(operator.key, PAYLOAD_TYPE, build).to_bytes()}
    files = _contents(dossier)

    def countersign(node: str) -> dict[str, bytes]:
        return desk.countersign(
            node,
            grant_sha256=dossier.grant_sha256,
            sessions=_sessions_of(dossier, node),
            statements={BUILD: build, PRIVACY: privacy},
            files=files,
        )

    for node, envelopes in desk.each(dossier.participants, countersign).items():
        signed["build", node] = envelopes[BUILD]
        signed["privacy", node] = envelopes[PRIVACY]
    return signed


def sign_release(
    dossier: Dossier, statement: bytes, operator: Identity, desk: NodeDesk
) -> dict[tuple[str, str], bytes]:
    """Have operator and nodes sign the release statement.

    Raises:
        NodeRefusedError: a node does not know what the release says.
    """
    signed = {("release", operator.id): sign(operator.key, PAYLOAD_TYPE, statement).to_bytes()}

    def countersign(node: str) -> dict[str, bytes]:
        return desk.countersign(
            node,
            grant_sha256=dossier.grant_sha256,
            sessions=_sessions_of(dossier, node),
            statements={RELEASE: statement},
            files={},
        )

    for node, envelopes in desk.each(dossier.participants, countersign).items():
        signed["release", node] = envelopes[RELEASE]
    return signed


@dataclass(slots=True)
class Evidence:
    """What of a product stands in the log, with its proofs.

    Attributes:
        origin: of the log.
        indices, proofs: by (statement name, actor id).
        envelopes: what was logged.
    """

    origin: str
    indices: dict[tuple[str, str], int]
    proofs: dict[tuple[str, str], bytes]
    envelopes: dict[tuple[str, str], bytes]

    def stored(self, now: datetime) -> Stored:
        """Return where the evidence stands, for the application."""
        return Stored(self.origin, dict(self.indices), now)


def store(log: Log, signed: Signed, trust: Trust, *, before: Evidence | None = None) -> Evidence:
    """Append envelopes to the log, in order, and have them witnessed.

    Args:
        log: the open log.
        signed: new envelopes.
        trust: verified trust data, for the signers' keys.
        before: what was stored earlier; is added to.

    Raises:
        LogError: not appended, or not witnessed by a quorum; call again.
    """
    evidence = before or Evidence(log.origin, {}, {}, {})
    places = [place for place in signed if place not in evidence.indices]
    logged = log.publish(submissions([signed[place] for place in places], trust.actors)) if places else []
    for place, entry in zip(places, logged, strict=True):
        evidence.indices[place], evidence.proofs[place] = entry.index, entry.proof
        evidence.envelopes[place] = signed[place]
    return evidence


def package(
    dest: Path,
    dossier: Dossier,
    evidence: Evidence,
    *,
    trust_folder: Path,
    second: Mapping[str, bytes] | None = None,
    previous: Sequence[SignedStatement] = (),
) -> PackageSummary:
    """Write the package of a release whose registrars have signed and stand in the log.

    Args:
        dest: new folder.
        dossier: the product.
        evidence: everything that stands in the log.
        trust_folder: the agency's published trust repository.
        second: second signatures by path, see factory.release.second.
        previous: the registrars' envelopes of the version before, with their proofs.

    Raises:
        EvidenceMissingError: a registrar is missing.
        PackageExistsError: ``dest`` is there.
    """
    release = [actor for name, actor in evidence.envelopes if name == "release"]
    if len(release) < len(dossier.participants) + 3:
        raise EvidenceMissingError(f"expected operator, nodes and two registrars on the release, got {len(release)}")
    statements = [
        SignedStatement(name, actor, data, evidence.proofs[name, actor])
        for (name, actor), data in evidence.envelopes.items()
    ]
    return write_package(
        dest,
        payload=dossier.payload,
        signed=statements,
        quality_reports=dossier.quality_reports,
        trust_dir=trust_folder,
        second=second,
        previous=previous,
    )


def _contents(dossier: Dossier) -> dict[str, bytes]:
    return {
        path: item if isinstance(item, bytes) else item.read_bytes() for path, item in dossier.payload.contents.items()
    }


def _sessions_of(dossier: Dossier, node: str) -> list[str]:
    return sorted({str(run["session"]) for name, run in dossier.runs.items() if name == node})


def _signer(data: bytes, trust: Trust, predicate_type: str, now: datetime) -> str:
    envelope = Envelope.from_bytes(data)
    for actor in trust.actors.actors:
        entry = current_entry(trust.actors, actor.id, now=now)
        if entry is None or entry.verify_key.keyid != envelope.keyid:
            continue
        try:
            read(envelope.open(entry.verify_key, PAYLOAD_TYPE), predicate_type)
        except ContractError as error:
            raise EvidenceMissingError(f"expected a valid statement of {actor.id}: {error}") from error
        return actor.id
    raise EvidenceMissingError(f"expected a statement signed by an admitted actor, got the key {envelope.keyid[:12]}")


def _require_departments(sources: Mapping[tuple[str, str], bytes], grant: Grant, nodes: Sequence[str]) -> None:
    missing = sorted({party.node for party in grant.parties} - {actor for name, actor in sources if name == "grant"})
    registrars = {actor for name, actor in sources if name == "grant"} & set(grant.registrars)
    if missing or len(registrars) < 2:
        raise EvidenceMissingError(
            f"expected the grant signed by two registrars and every department; missing departments: {missing}, "
            f"registrars: {len(registrars)}"
        )
    if not nodes:
        raise EvidenceMissingError("expected at least one run statement")
