"""The registrar's last look: the release folder, checked and signed from the registrar's own home.

The operator lays a folder with the release statement, every envelope it lists, and the
agency's signed answer about the registration. A registrar recomputes what the release
claims from these envelopes and signs only then, in an own process, with an own key.

    release.json                       the statement's payload
    envelopes/<statement>.<actor>.dsse.json
    registration.dsse.json             the agency's signed answer
    <registrar>.dsse.json              the signatures
    sm2/<statement>.<registrar>.sm2.dsse.json   the same with SM2, from homes that have such a key
    <registrar>.layout                 the same for in-toto tools
    registration.pdf <registrar>.certificate    登记凭证, and the registrars' word that it says what the release says
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from factory.agency.admission import current_entry
from factory.files import write_atomic
from factory.identity import Identity
from factory.release import certificate_pdf
from factory.release.dossier import Signed
from factory.release.errors import SigningRefusedError
from factory.release.second import layout_of, read_sm2, sign_second, write_own_sm2
from factory.trust import Trust
from nodes.contract.errors import ContractError
from nodes.contract.messages import Result, parse
from nodes.contract.parameters import CLOCK_SKEW_S_MAX
from nodes.contract.signing import Envelope, sha256_hex, sign
from nodes.contract.statement import BUILD, GRANT, NODE_RUN, PAYLOAD_TYPE, PRIVACY, RELEASE, RESOURCE, REVIEW, read
from nodes.contract.trust import Actor
from products import certificate, registration_code, statements
from products.package import interop, paths

RELEASE_DAYS_MAX = 7
"""Oldest release statement that is still signed, in days (docs/reference/trust.md, release_delay_s_max)."""


@dataclass(slots=True)
class _Signers:
    actors: dict[str, Actor] = field(default_factory=dict)

    def of_role(self, role: str) -> set[str]:
        return {actor.id for actor in self.actors.values() if role in actor.roles}

    def organisations(self, role: str) -> set[str]:
        return {actor.organisation for actor in self.actors.values() if role in actor.roles}


def lay_release(folder: Path, statement: bytes, signed: Signed, registration: Envelope) -> None:
    """Lay the folder for the registrars.

    Args:
        folder: new or existing folder of this very release.
        statement: payload of the release.
        signed: every envelope, those of the release by operator and nodes among them.
        registration: the agency's signed answer to ``registration.status``.

    Raises:
        SigningRefusedError: the folder holds another release.
    """
    path = folder / "release.json"
    if path.exists() and path.read_bytes() != statement:
        raise SigningRefusedError(f"expected an empty folder or this very release in {folder}")
    (folder / "envelopes").mkdir(parents=True, exist_ok=True)
    for (name, actor), data in signed.items():
        write_atomic(folder / "envelopes" / f"{name}.{actor}.dsse.json", data)
    write_atomic(folder / "registration.dsse.json", registration.to_bytes())
    write_atomic(path, statement)


def sign_as_registrar(folder: Path, registrar: Identity, trust: Trust, *, now: datetime) -> bytes:
    """Check the release and sign it as one registrar.

    Returns:
        The envelope, also written into the folder.

    Raises:
        SigningRefusedError: something the release claims does not follow from its evidence.
    """
    entry = current_entry(trust.actors, registrar.id, now=now)
    if entry is None or "registrar" not in entry.roles or entry.verify_key != registrar.key.public:
        raise SigningRefusedError(f"expected {registrar.id} as a registrar in the trust data")
    statement = (folder / "release.json").read_bytes()
    check_release(folder, statement, trust, now=now)
    _sign_second(folder, registrar, statement, trust, now)
    envelope = sign(registrar.key, PAYLOAD_TYPE, statement).to_bytes()
    own = {
        path.name.removesuffix(".dsse.json"): path.read_bytes() for path in (folder / "envelopes").glob("*.dsse.json")
    }
    write_own_sm2(folder, registrar, trust, {**own, f"release.{registrar.id}": envelope})
    write_atomic(folder / f"{registrar.id}.dsse.json", envelope)
    return envelope


def second_files(folder: Path) -> dict[str, bytes]:
    """Return the registrars' second signatures and the certificate's page, by path in the package."""
    found = {interop.layout_path(path.stem): path.read_bytes() for path in sorted(folder.glob("*.layout"))}
    found |= read_sm2(folder)
    signatures = {interop.certificate_path(p.stem): p.read_bytes() for p in sorted(folder.glob("*.certificate"))}
    if len(signatures) >= 2:
        found |= {**signatures, paths.CERTIFICATE_PDF: (folder / "registration.pdf").read_bytes()}
    return found


def _sign_second(folder: Path, registrar: Identity, statement: bytes, trust: Trust, now: datetime) -> None:
    """Sign the layout and, where pages can be made, the certificate's page."""
    subjects, release = read(statement, RELEASE)
    by_type = _signers(folder, release, statement, trust, now)
    operator = next(a for a in by_type[RELEASE].actors.values() if "operator" in a.roles)
    reviewers = [actor for _, actor in sorted(by_type[REVIEW].actors.items())]
    layout = layout_of(release, [path for path, _ in sorted(subjects)], operator=operator, reviewers=reviewers)
    write_atomic(folder / f"{registrar.id}.layout", sign_second(registrar.key, layout))
    if not certificate_pdf.is_available():
        return
    page = certificate_pdf.render(
        _certificate_facts(folder, statement), {actor.id: actor.title_zh for actor in reversed(trust.actors.actors)}
    )
    path = folder / "registration.pdf"
    if path.exists() and path.read_bytes() != page:
        raise SigningRefusedError(
            "expected the same certificate page as the other registrar's; compare the versions of the extra `reports`"
        )
    write_atomic(path, page)
    payload = interop.certificate_statement(sha256_hex(page), sha256_hex(statement))
    write_atomic(folder / f"{registrar.id}.certificate", sign_second(registrar.key, payload))


def _certificate_facts(folder: Path, statement: bytes) -> certificate.CertificateFacts:
    payloads = [Envelope.from_bytes(p.read_bytes()).payload for p in sorted((folder / "envelopes").glob("*.dsse.json"))]
    by_digest = {sha256_hex(payload): statements.read(payload).predicate for payload in payloads}
    release = cast(statements.Release, statements.read(statement).predicate)
    return certificate.CertificateFacts(
        release=release,
        release_sha256=sha256_hex(statement),
        grant=cast(statements.Grant, by_digest[release.grant.sha256]),
        resources=[item for item in by_digest.values() if isinstance(item, statements.Resource)],
        places=(),
    )


def registrars_signed(folder: Path, trust: Trust, *, now: datetime) -> dict[tuple[str, str], bytes]:
    """Return the registrars' envelopes of the release, once two different ones have signed.

    Raises:
        SigningRefusedError: one is missing.
    """
    statement, found = (folder / "release.json").read_bytes(), {}
    for path in sorted(folder.glob("*.dsse.json")):
        if path.name == "registration.dsse.json":
            continue
        data = path.read_bytes()
        for actor in trust.actors.actors:
            if "registrar" in actor.roles and actor.is_valid_at(now) and _opens(data, actor, statement):
                found["release", actor.id] = data
    if len(found) < 2:
        raise SigningRefusedError(f"expected two registrars on the release, got {len(found)}")
    return found


def check_release(folder: Path, statement: bytes, trust: Trust, *, now: datetime) -> None:
    """Recompute from the envelopes what the release claims.

    Raises:
        SigningRefusedError: names the first claim that does not follow.
    """
    try:
        _, release = read(statement, RELEASE)
        signers = _signers(folder, release, statement, trust, now)
        _check_signers(release, signers)
        _check_registration(folder, release, trust, now)
        _check_status(release, signers, trust)
    except (ContractError, KeyError, TypeError) as error:
        raise SigningRefusedError(f"expected a release with its evidence: {error}") from error
    released = datetime.fromisoformat(release["released_at"])
    if not now - timedelta(days=RELEASE_DAYS_MAX) <= released <= now + timedelta(seconds=CLOCK_SKEW_S_MAX):
        raise SigningRefusedError("expected a release of these days, not one that is back- or post-dated")


def _signers(
    folder: Path, release: Mapping[str, Any], statement: bytes, trust: Trust, now: datetime
) -> dict[str, _Signers]:
    listed = {item["name"]: (item["predicate_type"], item["sha256"]) for item in release["attestations"]}
    by_type: dict[str, _Signers] = {}
    seen = set()
    for path in sorted((folder / "envelopes").glob("*.dsse.json")):
        envelope = Envelope.from_bytes(path.read_bytes())
        actor = next(
            (a for a in trust.actors.actors if a.verify_key.keyid == envelope.keyid and a.is_valid_at(now)), None
        )
        if actor is None:
            raise SigningRefusedError(f"{path.name}: expected the signature of an admitted actor")
        payload = envelope.open(actor.verify_key, PAYLOAD_TYPE)
        name = path.name.removesuffix(f".{actor.id}.dsse.json")
        kind, digest = listed.get(name, (RELEASE, ""))
        if name != "release" and digest != envelope.payload_sha256:
            raise SigningRefusedError(f"{path.name}: not the statement that the release lists")
        if name == "release" and payload != statement:
            raise SigningRefusedError(f"{path.name}: signed another release statement")
        read(payload, kind)
        by_type.setdefault(kind, _Signers()).actors[actor.id] = actor
        seen.add(name)
    missing = sorted(set(listed) - seen)
    if missing:
        raise SigningRefusedError(f"expected an envelope of every listed statement; missing: {', '.join(missing)}")
    return by_type


def _check_signers(release: Mapping[str, Any], by_type: Mapping[str, _Signers]) -> None:
    for kind in (RESOURCE, GRANT, NODE_RUN, BUILD, PRIVACY, REVIEW, RELEASE):
        if kind not in by_type:
            raise SigningRefusedError(f"expected a statement of type {kind}")
    participants = set(release["participants"])
    for kind in (NODE_RUN, BUILD, PRIVACY, RELEASE):
        absent = sorted(participants - by_type[kind].of_role("node"))
        if absent:
            raise SigningRefusedError(f"expected {', '.join(absent)} as signer of {kind}")
    if len(by_type[GRANT].of_role("registrar")) < 2:
        raise SigningRefusedError("expected two registrars on the grant")
    if not by_type[RELEASE].of_role("operator") or not by_type[BUILD].of_role("operator"):
        raise SigningRefusedError("expected the operator on build and release")
    involved = by_type[RELEASE].organisations("operator") | by_type[RELEASE].organisations("node")
    reviewers = {a.id: a.organisation for a in by_type[REVIEW].actors.values() if "reviewer" in a.roles}
    outside = {person: body for person, body in reviewers.items() if body not in involved}
    if len(outside) < 2 or len(set(outside.values())) < 2:
        raise SigningRefusedError(
            f"expected two reviewers of two organisations apart from operator and departments, got {len(outside)} of "
            f"{len(set(outside.values()))} [PROD-REVIEW, GD-26-1]"
        )


def _check_registration(folder: Path, release: Mapping[str, Any], trust: Trust, now: datetime) -> None:
    envelope = Envelope.from_bytes((folder / "registration.dsse.json").read_bytes())
    agency = next((a for a in trust.actors.actors if "agency" in a.roles and a.is_valid_at(now)), None)
    if agency is None:
        raise SigningRefusedError("expected the agency in the trust data")
    answer = parse(Result, envelope.open(agency.verify_key, Result.payload_type)).body
    code, until = release["registration"]["code"], release["registration"]["valid_until"]
    expected = f"reg-{release['product']['id']}-{release['product']['version']}"[:96]
    if (answer["state"], answer["code"], answer["valid_until"]) != ("coded", code, until):
        raise SigningRefusedError("expected the registration code and term that the agency gave [REG-PRODUCT]")
    if answer["application_id"] != expected or not registration_code.is_valid(code):
        raise SigningRefusedError("expected the registration of this very product version [REG-PRODUCT]")
    if datetime.fromisoformat(until) <= now:
        raise SigningRefusedError("the registration has expired; renew it first [REG-PRODUCT]")


def _check_status(release: Mapping[str, Any], by_type: Mapping[str, _Signers], trust: Trust) -> None:
    struck = [("grant", release["grant"]["id"]), ("product", release["product"]["id"])]
    struck += [("actor", name) for signers in by_type.values() for name in signers.actors]
    for kind, subject in struck:
        item = trust.status.state_of(kind, subject)
        if item is not None:
            raise SigningRefusedError(f"{kind} {subject} is {item.state} since {item.since:%Y-%m-%d}")


def _opens(data: bytes, actor: Actor, statement: bytes) -> bool:
    try:
        return Envelope.from_bytes(data).open(actor.verify_key, PAYLOAD_TYPE) == statement
    except ContractError:
        return False
