"""Identity homes: the keys of an operator, agency, registrar, reviewer or application unit.

A home is a folder of mode 0700 with ``identity.toml`` (names and roles, nothing secret),
``keys/`` (``factory.key_files``), ``certs/`` and ``trust/`` (agency-signed trust data and the
pinned root). One process opens one home: nobody holds two parties' keys.

HomeError
├── HomeMissingError      no such home, or a file of it is missing
├── HomeExistsError       making a home where one is
├── UnsafeKeyFileError    a key that others on the machine may read
├── CertificateExpiredError   the agency's certificate of this home has ended
└── AdmissionError        the agency's answer does not fit this home
"""

import base64
import json
import shlex
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from factory.files import write_atomic
from factory.key_files import (
    HomeError,
    HomeExistsError,
    HomeMissingError,
    encrypt_folder,
    load_key,
    load_p256_key,
    prepare_folder,
    read_key_file,
    write_key_file,
)
from nodes.contract import gm
from nodes.contract.enrolment import Admission, Enrolment, endorsement_bytes, sign_enrolment
from nodes.contract.signing import Envelope, SigningKey, sha256_hex
from nodes.contract.trust import Role

ROLES_THAT_DIAL: frozenset[str] = frozenset({"operator", "agency", "application_unit"})
"""Roles that dial the relay and so need a TLS client certificate and a sealing key."""

TRUST_KEY = "trust"
"""Name of the registrar's second key: it signs trust metadata, never statements."""

SM2_KEY = "sm2.pem"
"""File with the key of second signatures, in homes that make them."""

TRUST_PUBLIC = "trust-key.pub.pem"
"""File in a registrar's home with the public half, for the agency's root."""


class CertificateExpiredError(HomeError):
    """The certificate with which this home reaches the relay has ended."""

    code = "home.certificate_expired"


class AdmissionError(HomeError):
    """The agency's answer is not for this actor, not for its key, or not under its pinned root."""

    code = "home.admission"


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """One actor at home. The repr shows the id alone.

    Attributes:
        home: its folder.
        id: actor id.
        organisation: the body it belongs to.
        title_zh, title_en: names for people.
        roles: what it signs as.
        key: its statement key.
    """

    home: Path
    id: str
    organisation: str
    title_zh: str
    title_en: str
    roles: tuple[Role, ...]
    key: SigningKey

    def __repr__(self) -> str:
        return f"Identity({self.id})"

    @property
    def sealing_key(self) -> X25519PrivateKey:
        """The key that opens what is sealed for this actor.

        Raises:
            HomeMissingError: it has none.
        """
        key = load_key(self.home / "keys" / "sealing.pem")
        if not isinstance(key, X25519PrivateKey):
            raise HomeMissingError(f"expected an X25519 key in {self.home / 'keys' / 'sealing.pem'}")
        return key

    @property
    def sm2_key(self) -> bytes | None:
        """The key of its second signatures, 32 bytes, or None."""
        path = self.home / "keys" / SM2_KEY
        key = load_key(path) if path.is_file() else None
        return key.private_bytes_raw() if isinstance(key, X25519PrivateKey) else None

    @property
    def tls_key_path(self) -> Path:
        """Where the TLS key is; its mode is checked."""
        path = self.home / "keys" / "tls.pem"
        read_key_file(path)
        return path

    @property
    def tls_certificate_path(self) -> Path:
        """Where the agency-issued certificate is; it is in force.

        Raises:
            HomeMissingError: there is none.
            CertificateExpiredError: it has ended; nobody would answer.
        """
        path = _present(self.home / "certs" / "tls.crt", "ask the agency to admit this actor, then install its answer")
        ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        if ends <= datetime.now(UTC):
            raise CertificateExpiredError(
                f"expected a certificate of {self.id} in force, it ended at {ends:%Y-%m-%d}; run: shufang identity "
                f"rotate --home {shlex.quote(str(self.home))}, have the agency take its enrolment.json with `shufang "
                "agency rotate`, and install the answer"
            )
        return path

    @property
    def ca_path(self) -> Path:
        """Where the certificate of the agency's TLS authority is."""
        return _present(self.home / "certs" / "ca.crt", "ask the agency to admit this actor, then install its answer")

    @property
    def trust_path(self) -> Path:
        """The folder of agency-signed trust data."""
        return self.home / "trust"

    @property
    def trust_key(self) -> ec.EllipticCurvePrivateKey:
        """A registrar's key for trust metadata.

        Raises:
            HomeMissingError: this actor is no registrar.
        """
        return _signing_key(self.home, TRUST_KEY).private


def create_identity(
    home: Path,
    *,
    actor_id: str,
    organisation: str,
    title_zh: str,
    title_en: str,
    roles: tuple[Role, ...],
    root: bytes | None = None,
    passphrase_file: Path | None = None,
    with_sm2: bool = False,
    now: datetime | None = None,
) -> Identity:
    """Make a home with fresh keys and its ``enrolment.json``.

    Args:
        home: folder that does not hold an identity yet.
        actor_id: name in every message.
        organisation: the body it belongs to; separation of duties counts these.
        title_zh: name for people, Chinese.
        title_en: name for people, English.
        roles: what it will sign as.
        root: the agency's ``1.root.json``, handed over out of band; may be pinned later.
        passphrase_file: encrypts the keys at rest; made with a random passphrase if it is not there.
        with_sm2: make an SM2 key too, for second signatures (extra ``gm``).
        now: time of the enrolment bundle.

    Raises:
        HomeExistsError: there is an identity here.
        pydantic.ValidationError: a name or role that messages do not allow.
    """
    if (home / "identity.toml").exists():
        raise HomeExistsError(f"expected no identity in {home}; use another folder, or rotate its keys")
    moment = now or datetime.now(UTC)
    key = new_signing_key()
    sealing = X25519PrivateKey.generate() if ROLES_THAT_DIAL & set(roles) else None
    tls = ec.generate_private_key(ec.SECP256R1()) if ROLES_THAT_DIAL & set(roles) else None
    second = gm.make_key() if with_sm2 else None
    enrolment = Enrolment(
        id=actor_id,
        organisation=organisation,
        title_zh=title_zh,
        title_en=title_en,
        roles=roles,
        statement_spki=base64.b64encode(key.public.spki).decode("ascii"),
        sealing_key=base64.b64encode(sealing.public_key().public_bytes_raw()).decode("ascii") if sealing else "",
        tls_csr=certificate_request(tls, actor_id).decode("ascii") if tls else "",
        sm2_spki=base64.b64encode(gm.spki_of(second)).decode("ascii") if second else "",
        made_at=moment,
    )
    for folder in (home, home / "keys", home / "certs", home / "trust"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    prepare_folder(home / "keys", passphrase_file)
    write_key_file(home / "keys" / "statement.pem", key.private)
    if second is not None:
        # 32 secret bytes in the form of a key of that length: the library writes no SM2 keys.
        write_key_file(home / "keys" / SM2_KEY, X25519PrivateKey.from_private_bytes(second))
    if sealing is not None:
        write_key_file(home / "keys" / "sealing.pem", sealing)
    if tls is not None:
        write_key_file(home / "keys" / "tls.pem", tls)
    if "registrar" in roles:
        trust_key = ec.generate_private_key(ec.SECP256R1())
        write_key_file(home / "keys" / f"{TRUST_KEY}.pem", trust_key)
        public = trust_key.public_key()
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        write_atomic(home / TRUST_PUBLIC, public.public_bytes(*form))
    if root is not None:
        pin_root(home, root)
    write_atomic(home / "enrolment.json", sign_enrolment(enrolment, key))
    write_atomic(home / "identity.toml", _settings(enrolment))
    return load_identity(home)


def rotate_identity(identity: Identity, *, now: datetime | None = None) -> Identity:
    """Replace the statement key, keep the old one beside it, and write an endorsed ``enrolment.json``.

    The new key counts once the agency has admitted the bundle; until then keep signing with the old
    home's identity that is already loaded.
    """
    moment = now or datetime.now(UTC)
    earlier, key = identity.key, new_signing_key()
    before = Enrolment.model_validate_json(_payload_of(identity.home / "enrolment.json"), strict=False)
    enrolment = before.model_copy(
        update={
            "statement_spki": base64.b64encode(key.public.spki).decode("ascii"),
            "previous_keyid": earlier.public.keyid,
            "endorsement": base64.b64encode(earlier.sign(endorsement_bytes(key.public.spki))).decode("ascii"),
            "made_at": moment,
        }
    )
    keys = identity.home / "keys"
    write_key_file(keys / f"statement.{earlier.public.keyid[:12]}.pem", earlier.private)
    write_atomic(identity.home / "enrolment.json", sign_enrolment(enrolment, key))
    write_key_file(keys / "statement.pem", key.private)
    return load_identity(identity.home)


def load_identity(home: Path) -> Identity:
    """Open a home.

    Raises:
        HomeMissingError: no identity here.
        UnsafeKeyFileError: its keys can be read by others.
    """
    path = home / "identity.toml"
    if not path.is_file():
        raise HomeMissingError(f"expected an identity in {home}: no identity.toml there; make one with `init`")
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    try:
        fields = {name: str(settings[name]) for name in ("id", "organisation", "title_zh", "title_en")}
        roles = tuple(cast(Role, str(role)) for role in settings["roles"])
    except KeyError as error:
        raise HomeMissingError(f"expected {error} in {path}") from None
    key = _signing_key(home, "statement")
    return Identity(home=home, roles=roles, key=key, **fields)


def pin_root(home: Path, root: bytes) -> str:
    """Keep the agency's first root, handed over out of band, and return its SHA-256.

    Raises:
        AdmissionError: another root is pinned already.
    """
    path = home / "trust" / "root.json"
    if path.exists() and path.read_bytes() != root:
        raise AdmissionError(f"expected the root that is pinned in {path}; a new root comes as signed trust data")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, root)
    return sha256_hex(root)


def install_admission(identity: Identity, response: bytes, *, now: datetime | None = None) -> None:
    """Verify the agency's answer from the pinned root and install certificate and trust data.

    Raises:
        AdmissionError: for another actor or key, or no root is pinned.
        TrustError: the trust data does not verify.
    """
    from factory.trust import load_trust, write_trust_folder

    admission = Admission.from_bytes(response)
    if admission.id != identity.id:
        raise AdmissionError(f"expected an answer for {identity.id}, got one for {admission.id}")
    if not (identity.trust_path / "root.json").is_file():
        raise AdmissionError("expected a pinned root; pin the agency's 1.root.json, handed over out of band, first")
    moment = now or datetime.now(UTC)
    write_trust_folder(identity.trust_path, admission.trust_files(), now=moment)
    trust = load_trust(identity.trust_path, now=moment)
    actor = next((a for a in trust.actors.actors if a.id == identity.id and a.is_valid_at(moment)), None)
    if actor is None or actor.verify_key != identity.key.public:
        raise AdmissionError(f"expected {identity.id} with the key of this home in the trust data")
    ca = trust.target("ca.crt")
    if admission.certificate:
        _check_certificate(identity, admission.certificate.encode("ascii"), ca)
        write_atomic(identity.home / "certs" / "tls.crt", admission.certificate.encode("ascii"))
    write_atomic(identity.home / "certs" / "ca.crt", ca)


def new_signing_key() -> SigningKey:
    """Return a fresh ECDSA P-256 key."""
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def certificate_request(key: ec.EllipticCurvePrivateKey, actor_id: str) -> bytes:
    """Return a PEM certificate request for ``actor_id``, signed by ``key``."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, actor_id[:64])])
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def encrypt_keys(home: Path, passphrase_file: Path) -> list[str]:
    """Encrypt the keys of a home at rest, and return their names.

    The TLS key stays as it is: it only opens connections, and the TLS library reads it from the file.

    Args:
        home: an identity home.
        passphrase_file: holds the passphrase; mode 0600, best on another device than the home.

    Raises:
        HomeExistsError: they are encrypted already.
        UnsafeKeyFileError: the passphrase can be read by others, or it is too short.
    """
    load_identity(home)
    return encrypt_folder(home / "keys", passphrase_file)


def _signing_key(home: Path, name: str) -> SigningKey:
    """Return a key of the home, from its file or from the token that ``identity.toml`` names."""
    settings = tomllib.loads((home / "identity.toml").read_text("utf-8")).get("pkcs11")
    if isinstance(settings, dict) and name in settings:
        from factory.pkcs11_key import read_token

        pin = read_key_file(home / str(settings.get("pin_file", "pin")))
        return SigningKey(read_token(settings, pin).key(str(settings[name])))
    return SigningKey(load_p256_key(home / "keys" / f"{name}.pem"))


def _check_certificate(identity: Identity, pem: bytes, ca_pem: bytes) -> None:
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    key = serialization.load_pem_private_key(identity.tls_key_path.read_bytes(), None)
    encoding = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*encoding) != key.public_key().public_bytes(*encoding):
        raise AdmissionError("expected a certificate for the TLS key of this home")


def _present(path: Path, next_step: str) -> Path:
    if not path.is_file():
        raise HomeMissingError(f"expected {path}; {next_step}")
    return path


def _payload_of(path: Path) -> bytes:
    return Envelope.from_bytes(path.read_bytes()).payload


def _settings(enrolment: Enrolment) -> bytes:
    lines = ["# Who this home belongs to. Nothing in here is secret; the keys are in keys/."]
    lines += [
        f"{name} = {json.dumps(getattr(enrolment, name), ensure_ascii=False)}"
        for name in ("id", "organisation", "title_zh", "title_en")
    ]
    lines.append(f"roles = {json.dumps(list(enrolment.roles))}")
    return ("\n".join(lines) + "\n").encode("utf-8")
