"""Enrolment: how an actor hands its public keys to the agency, and what comes back.

An enrolment is a message signed with the very statement key it carries (proof of possession);
the TLS key proves itself in the certificate signing request. A rotation is an enrolment of
new keys that the old statement key endorses. The agency's answer, an ``Admission``, needs no
signature of its own: the trust files in it verify from the pinned root, and the certificate
from the ``ca.crt`` among them.

Privacy: public keys and names of offices only.
"""

import base64
import binascii
from typing import Annotated, ClassVar, Literal

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import Field, ValidationError

from nodes.contract import canonical
from nodes.contract.errors import BadSignatureError, MalformedError
from nodes.contract.messages import Message, Name, Part, Text, Time, parse
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sha256_hex, sign
from nodes.contract.trust import Actor, Role

TRUST_FILES_BYTES_MAX = 32 * 1024 * 1024
"""Largest admission that is read, in bytes."""


class Enrolment(Message):
    """The key bundle of one actor.

    Attributes:
        id: actor id it asks for.
        organisation: body it belongs to.
        title_zh, title_en: names for people.
        roles: what it wants to sign as; the agency decides.
        statement_spki: base64 DER of its ECDSA P-256 statement key; signs this message.
        sealing_key: base64 of 32 bytes X25519, or empty.
        hub_spki: base64 DER of its P-384 hub key, or empty.
        tls_csr: PEM certificate signing request of its P-256 TLS key, or empty.
        sm2_spki: base64 DER of its SM2 key, or empty.
        previous_keyid: at a rotation, the key id of the statement key in force; else empty.
        endorsement: at a rotation, base64 signature of that key over ``endorsement_bytes``.
        made_at: when.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.enrolment.v1+json"

    version: Literal[1] = 1
    id: Name
    organisation: Name
    title_zh: Text
    title_en: Text
    roles: Annotated[tuple[Role, ...], Field(min_length=1, strict=False)]
    statement_spki: str
    sealing_key: str = ""
    hub_spki: str = ""
    tls_csr: str = ""
    sm2_spki: str = ""
    previous_keyid: str = ""
    endorsement: str = ""
    made_at: Time

    @property
    def verify_key(self) -> VerifyKey:
        """The statement key of the bundle."""
        return VerifyKey(_unbase64(self.statement_spki))

    @property
    def tls_spki_sha256(self) -> str:
        """Digest of the TLS key of the request, as ``Actor.tls_spki_sha256`` holds it; empty without one."""
        if not self.tls_csr:
            return ""
        public = x509.load_pem_x509_csr(self.tls_csr.encode("ascii")).public_key()
        return sha256_hex(
            public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def to_actor(self, *, not_before: Time, not_after: Time) -> Actor:
        """Return the trust-data entry that admits this bundle for a window."""
        return Actor(
            id=self.id,
            organisation=self.organisation,
            title_zh=self.title_zh,
            title_en=self.title_en,
            roles=self.roles,
            statement_spki=self.statement_spki,
            sealing_key=self.sealing_key,
            hub_spki=self.hub_spki,
            tls_spki_sha256=self.tls_spki_sha256,
            sm2_spki=self.sm2_spki,
            not_before=not_before,
            not_after=not_after,
        )


class Admission(Part):
    """What the agency hands back after it admitted an actor.

    Attributes:
        id: the admitted actor.
        certificate: PEM of its TLS client certificate, or empty if it asked for none.
        trust: file name (``metadata/…``, ``targets/…``) to base64 content of the trust repository.
    """

    version: Literal[1] = 1
    id: Name
    certificate: str = ""
    trust: dict[str, str]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of the admission file."""
        return canonical.dumps(self.model_dump(mode="json"))

    def trust_files(self) -> dict[str, bytes]:
        """Return the trust repository's files by name."""
        return {name: _unbase64(text) for name, text in self.trust.items()}

    @classmethod
    def from_files(cls, actor_id: str, certificate_pem: str, files: dict[str, bytes]) -> "Admission":
        """Make an admission from the trust repository's files."""
        encoded = {name: base64.b64encode(content).decode("ascii") for name, content in files.items()}
        return cls(id=actor_id, certificate=certificate_pem, trust=encoded)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Admission":
        """Read an admission file; nothing in it is trusted yet.

        Raises:
            MalformedError: not such a file.
        """
        try:
            return cls.model_validate(canonical.loads(data, size_max=TRUST_FILES_BYTES_MAX))
        except ValidationError:
            raise MalformedError("expected an admission file of the agency") from None


def endorsement_bytes(statement_spki: bytes) -> bytes:
    """Return what the old statement key signs to endorse a new one."""
    return b"shufang/v1/rotation\n" + sha256_hex(statement_spki).encode("ascii")


def sign_enrolment(enrolment: Enrolment, key: SigningKey) -> bytes:
    """Sign the bundle with its own statement key and return the enrolment file's bytes."""
    return sign(key, enrolment.payload_type, enrolment.to_payload()).to_bytes()


def open_enrolment(data: bytes, *, previous: VerifyKey | None = None) -> Enrolment:
    """Read an enrolment file and check that whoever made it holds the keys in it.

    Args:
        data: the file.
        previous: at a rotation, the statement key in force according to the trust data.

    Raises:
        BadSignatureError: signed by another key, or (with ``previous``) not endorsed by it.
        MalformedError: not an enrolment, or a request that is not for this id with a P-256 key.
    """
    envelope = Envelope.from_bytes(data)
    # The key to check with is inside: this proves possession, not identity. The agency proves identity.
    claimed = parse(Enrolment, envelope.payload)
    enrolment = parse(Enrolment, envelope.open(claimed.verify_key, Enrolment.payload_type))
    if enrolment.sealing_key and len(_unbase64(enrolment.sealing_key)) != 32:
        raise MalformedError("expected 32 bytes of an X25519 sealing key")
    if enrolment.hub_spki:
        _require_curve(serialization.load_der_public_key(_unbase64(enrolment.hub_spki)), ec.SECP384R1)
    if enrolment.tls_csr:
        _check_request(enrolment)
    if previous is not None:
        if enrolment.previous_keyid != previous.keyid:
            raise BadSignatureError(f"expected a rotation of key {previous.keyid[:12]}")
        previous.verify(_unbase64(enrolment.endorsement), endorsement_bytes(_unbase64(enrolment.statement_spki)))
    return enrolment


def _check_request(enrolment: Enrolment) -> None:
    try:
        request = x509.load_pem_x509_csr(enrolment.tls_csr.encode("ascii"))
    except ValueError as error:
        raise MalformedError("expected a PEM certificate signing request") from error
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not request.is_signature_valid or [name.value for name in names] != [enrolment.id]:
        raise MalformedError(f"expected a certificate signing request made for {enrolment.id} by the holder of its key")
    _require_curve(request.public_key(), ec.SECP256R1)


def _require_curve(key: object, curve: type[ec.EllipticCurve]) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise MalformedError(f"expected an elliptic-curve key on {curve.name}")


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("expected standard base64") from error
