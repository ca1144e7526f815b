"""The application for registration, filled from the dossier: seven blocks, evidence first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from factory.agency.client import AgencyClient
from factory.federation.session import Reply
from factory.lifecycle.registration import (
    Application,
    EvidenceEntry,
    LawfulSource,
    ProductBlock,
    ProductFile,
    Registrant,
    RiskBlock,
    ScenarioBlock,
    SourceResource,
    StoredEvidence,
)
from factory.release.dossier import Dossier, resource_facts
from factory.release.errors import EvidenceMissingError, RegistrationError
from factory.review.finding import Finding
from nodes.contract.signing import Envelope, sha256_hex
from nodes.contract.trust import Actor
from products import registration_code
from products.errors import ProductError


@dataclass(frozen=True, slots=True)
class Stored:
    """Evidence in the log.

    Attributes:
        origin: of the log.
        indices: place by (statement name, actor id).
        stored_at: when.
    """

    origin: str
    indices: Mapping[tuple[str, str], int]
    stored_at: datetime


def application(
    dossier: Dossier,
    signed: Mapping[tuple[str, str], bytes],
    stored: Stored,
    *,
    registrant: Actor,
    prerelease: bytes,
    findings: Sequence[Finding],
    is_change: bool = False,
    now: datetime,
) -> Application:
    """Fill the seven blocks from signed statements.

    Args:
        dossier: the product.
        signed: every envelope so far, reviews among them.
        stored: where they stand in the log.
        registrant: the operator as the trust data has it.
        prerelease: the pre-release report.
        findings: the automated tests.
        is_change: an earlier version of this product is registered.
        now: clock.

    Raises:
        EvidenceMissingError: a statement is not in the log, or a review is missing.
    """
    description, grant = dossier.description, dossier.grant
    missing = sorted(f"{name}.{actor}" for name, actor in signed if (name, actor) not in stored.indices)
    reviews = [
        Envelope.from_bytes(data).payload_sha256 for (name, _), data in signed.items() if name.startswith("review-")
    ]
    if missing or len(reviews) < 2:
        raise EvidenceMissingError(
            f"expected every statement in the log before registration [NR-07-4]; missing: {missing}, "
            f"reviews: {len(reviews)}"
        )
    return Application(
        application_id=f"reg-{description.id}-{description.version}"[:96],
        kind="change" if is_change else "first",
        registrant=Registrant(
            actor=registrant.id,
            organisation=registrant.organisation,
            name_zh=registrant.title_zh,
            name_en=registrant.title_en,
        ),
        lawful_source=LawfulSource(
            basis="公共数据资源授权运营协议与场景授权 / authorised-operation agreement and scenario grant",
            agreement_id=grant.agreement_id,
            grant_id=grant.grant_id,
            grant_sha256=dossier.grant_sha256,
        ),
        resources=tuple(
            SourceResource(
                resource=predicate["resource"]["id"],
                version=predicate["resource"]["version"],
                holder=predicate["resource"]["holder"],
                statement_sha256=digest,
                registration_platform=predicate["registration"]["platform"],
                registration_code=predicate["registration"]["code"],
                registration_valid_until=predicate["registration"]["valid_until"],
                quality_score_x100=predicate["quality"]["score_x100"],
            )
            for digest, predicate in resource_facts(dossier)
        ),
        evidence=StoredEvidence(
            log_origin=stored.origin,
            stored_at=stored.stored_at,
            entries=tuple(
                EvidenceEntry(
                    name=f"{name}.{actor}",
                    sha256=Envelope.from_bytes(signed[name, actor]).payload_sha256,
                    log_index=index,
                )
                for (name, actor), index in sorted(stored.indices.items())
                if (name, actor) in signed
            ),
        ),
        product=ProductBlock(
            id=description.id,
            product_version=description.version,
            form=description.form,
            name_zh=description.name_zh,
            name_en=description.name_en,
            summary=f"{description.summary_zh} / {description.summary_en}",
            files=tuple(ProductFile(path=path, sha256=digest) for path, digest in dossier.payload.product_subjects),
        ),
        scenario=ScenarioBlock(
            scenario=grant.scenario,
            title=grant.scenario_title,
            purpose=grant.purpose,
            request_sha256=grant.request_sha256,
        ),
        risk=RiskBlock(
            prerelease_sha256=sha256_hex(prerelease),
            reviews_sha256=tuple(sorted(reviews)),
            tests=tuple(finding.test for finding in findings),
            leaves_country=False,
        ),
        applied_at=now,
    )


def apply(client: AgencyClient, filled: Application) -> str:
    """Send the application and return its id; the agency's official then decides."""
    return str(client.apply_registration(filled.to_payload())["application_id"])


def registered(client: AgencyClient, application_id: str) -> tuple[str, datetime, Reply]:
    """Return code, end and the agency's signed answer, once the official has given the code.

    Raises:
        RegistrationError: not yet, or refused; or a code whose check digits are wrong.
    """
    reply = client.registration_status(application_id)
    state, code = str(reply.body["state"]), str(reply.body["code"])
    if state != "coded":
        raise RegistrationError(
            f"expected a registration code, {application_id} is {state}; the agency's official runs "
            f"`shufang agency register {application_id}`"
        )
    try:
        registration_code.read(code)
    except ProductError as error:
        raise RegistrationError(str(error)) from error
    return code, datetime.fromisoformat(str(reply.body["valid_until"])), reply
