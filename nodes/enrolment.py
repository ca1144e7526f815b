"""Enrolment at the node: make a home with keys, install the agency's answer, rotate keys.

``init`` writes ``enrolment.json``, which the officer takes to the agency; the agency's answer is
installed with ``admit-response``. At a rotation the new keys wait in ``keys/next`` until the
answer to them arrives; then they replace the old ones, which move to ``keys/old-<time>``.
"""

import base64
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodes.contract import gm
from nodes.contract.enrolment import Admission, Enrolment, endorsement_bytes, sign_enrolment
from nodes.contract.errors import ContractError, UnknownActorError
from nodes.contract.signing import SigningKey
from nodes.errors import EnrolmentError, KeyFileError, StorageError
from nodes.keys import (
    COMMITMENT,
    HUB,
    KEY_FILES,
    NOTE,
    SEALING,
    STATEMENT,
    TLS,
    load_ec_key,
    load_sealing_key,
    load_sm2_key,
    load_statement_key,
    make_keys,
    passphrase_file_of,
    public_der,
)
from nodes.settings import NodeSettings, settings_toml
from nodes.trust_store import CA_CERTIFICATE, TrustData, TrustStore, pin_root

ENROLMENT_FILE = "enrolment.json"
FOLDERS = ("certs", "trust", "catalogue", "suites", "quality", "logs", "tables")


def init_home(
    settings: NodeSettings,
    root_bytes: bytes,
    *,
    now: datetime,
    passphrase_file: Path | None = None,
    with_sm2: bool = False,
) -> Path:
    """Make a node's home and return the path of the enrolment file for the agency.

    Args:
        settings: of the node to be.
        root_bytes: the agency's root metadata, handed over out of band.
        now: the clock.
        passphrase_file: encrypts the keys at rest; made with a random passphrase if it is not there.
        with_sm2: make an SM2 key too, for second signatures.

    Raises:
        EnrolmentError: there is a node in this folder already.
        TrustError: not root metadata.
        KeyFileError: a key cannot be written.
        StorageError: the disk refused; a home that was not there before is not there now.
    """
    home = settings.home
    if (home / "node.toml").exists():
        raise EnrolmentError(f"expected no node in {home} yet; for new keys use `shufang-node keys rotate`")
    is_new = not home.exists()
    try:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        pin_root(settings.trust, root_bytes)
        make_keys(settings.keys, passphrase_file=passphrase_file, with_sm2=with_sm2)
        for name in FOLDERS:
            (home / name).mkdir(exist_ok=True)
        target = _write_enrolment(settings, settings.keys, now=now)
        (home / "node.toml").write_text(settings_toml(settings), encoding="utf-8")
    except BaseException as error:
        if is_new:
            shutil.rmtree(home, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageError(f"expected to be able to make {home} ({error.strerror}); name another folder") from error
        raise
    return target


def install_admission(settings: NodeSettings, data: bytes, *, now: datetime) -> TrustData:
    """Check the agency's answer and put certificate, trust data and (at a rotation) new keys in force.

    Raises:
        EnrolmentError: for another actor, other keys, or a certificate the agency did not issue.
        TrustError: trust data that does not verify from the pinned root.
    """
    try:
        admission = Admission.from_bytes(data)
        files = admission.trust_files()
    except ContractError as error:
        raise EnrolmentError(f"expected the agency's answer file: {error}") from error
    if admission.id != settings.id:
        raise EnrolmentError(f"expected an answer for {settings.id}, got one for {admission.id}")
    trust = TrustStore(settings.trust).update(files, now=now)
    candidates = [folder for folder in (settings.keys / "next", settings.keys) if (folder / STATEMENT).exists()]
    folder = next((folder for folder in candidates if _is_admitted(settings, folder, trust, now)), None)
    if folder is None:
        raise EnrolmentError(f"expected the trust data to admit {settings.id} with the keys of this home")
    certificate = _checked_certificate(admission, trust, load_ec_key(folder / TLS, ec.SECP256R1), now=now)
    if folder != settings.keys:
        _switch_keys(settings.keys, folder, now)
    settings.certs.mkdir(exist_ok=True)
    _replace(settings.certs / "tls.crt", certificate)
    _replace(settings.certs / "ca.crt", trust.targets[CA_CERTIFICATE])
    return trust


def rotate_keys(settings: NodeSettings, *, now: datetime) -> Path:
    """Make new keys beside the ones in force and return the path of the rotation file for the agency.

    Raises:
        EnrolmentError: a rotation is already under way.
    """
    following = settings.keys / "next"
    if following.exists():
        raise EnrolmentError(f"expected no rotation under way; finish it with `admit-response`, or remove {following}")
    previous = load_statement_key(settings.keys / STATEMENT)
    make_keys(following, passphrase_file=passphrase_file_of(settings.keys))
    (following / COMMITMENT).unlink()  # commitments stay comparable over a rotation
    return _write_enrolment(settings, following, now=now, previous=previous)


def _write_enrolment(
    settings: NodeSettings, folder: Path, *, now: datetime, previous: SigningKey | None = None
) -> Path:
    statement = load_statement_key(folder / STATEMENT)
    sealing = load_sealing_key(folder / SEALING).public_key().public_bytes_raw()
    spki = statement.public.spki
    second = load_sm2_key(settings.keys)  # stays over a rotation, as commitments do
    enrolment = Enrolment(
        id=settings.id,
        organisation=settings.organisation,
        title_zh=settings.title_zh,
        title_en=settings.title_en,
        roles=("node",),
        statement_spki=_base64(spki),
        sealing_key=_base64(sealing),
        hub_spki=_base64(public_der(load_ec_key(folder / HUB, ec.SECP384R1))),
        tls_csr=signing_request(settings.id, settings.organisation, load_ec_key(folder / TLS, ec.SECP256R1)),
        sm2_spki=_base64(gm.spki_of(second)) if second else "",
        previous_keyid=previous.public.keyid if previous else "",
        endorsement=_base64(previous.sign(endorsement_bytes(spki))) if previous else "",
        made_at=now,
    )
    target = settings.home / ENROLMENT_FILE
    _replace(target, sign_enrolment(enrolment, statement))
    return target


def signing_request(actor_id: str, organisation: str, key: ec.EllipticCurvePrivateKey) -> str:
    """Return a PEM certificate signing request in an actor's name."""
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, actor_id), x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode("ascii")


def certificate_window(pem: bytes) -> tuple[datetime, datetime]:
    """Return from when until when a certificate counts.

    Raises:
        EnrolmentError: not a certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise EnrolmentError("expected a PEM certificate") from error
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _is_admitted(settings: NodeSettings, folder: Path, trust: TrustData, now: datetime) -> bool:
    keyid = load_statement_key(folder / STATEMENT).public.keyid
    try:
        return any(a.id == settings.id and a.is_valid_at(now) for a in trust.by_keyid.get(keyid, ()))
    except UnknownActorError:
        return False


def _checked_certificate(
    admission: Admission, trust: TrustData, key: ec.EllipticCurvePrivateKey, *, now: datetime
) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(admission.certificate.encode("ascii"))
        authority = x509.load_pem_x509_certificate(trust.targets[CA_CERTIFICATE])
        certificate.verify_directly_issued_by(authority)
    except KeyError as error:
        raise EnrolmentError(f"expected {CA_CERTIFICATE} in the trust data") from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EnrolmentError("expected a certificate issued by the agency's authority in the trust data") from error
    if certificate.public_key() != key.public_key():
        raise EnrolmentError("expected a certificate for the TLS key of this home")
    if now >= certificate.not_valid_after_utc:
        raise EnrolmentError("expected a certificate that has not expired; ask the agency for a new answer")
    return admission.certificate.encode("ascii")


def _switch_keys(keys: Path, following: Path, now: datetime) -> None:
    old = keys / f"old-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    old.mkdir(mode=0o700)
    for name in KEY_FILES:
        if name == COMMITMENT:
            continue
        # Copy the old one away first: a kill in between leaves every key somewhere.
        os.link(keys / name, old / name)
        (following / name).replace(keys / name)
    if (keys / NOTE).exists():
        os.link(keys / NOTE, old / NOTE)
    (following / NOTE).unlink(missing_ok=True)
    following.rmdir()


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise KeyFileError(f"expected to be able to write {path} ({error.strerror})") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
