"""The agency's TLS authority: certificates by which relay, hub and actors know each other.

It issues client certificates for the certificate requests of admitted actors and server
certificates for hub and relay. A certificate opens a connection and nothing more: who
somebody is, and whether, comes from the trust data, which names the key's digest.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from factory.agency.errors import CertificateError
from factory.files import write_atomic
from factory.key_files import load_p256_key, prepare_folder, write_key_file
from nodes.contract.parameters import CLOCK_SKEW_S_MAX

CA_DAYS = 3650
"""Lifetime of the authority's own certificate, in days."""

LEAF_DAYS = 365
"""Lifetime of client and server certificates, in days (CA/Browser Forum BR 6.3.2 allows up to 398)."""

_SKEW = timedelta(seconds=CLOCK_SKEW_S_MAX)


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """The authority's key and certificate. Its repr shows neither.

    Attributes:
        key: private key, ECDSA P-256.
        certificate: its self-signed certificate.
    """

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"Authority({self.certificate.subject.rfc4514_string()})"

    @property
    def certificate_pem(self) -> bytes:
        """PEM of the certificate; target ``ca.crt`` of the trust data."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue_client(self, request_pem: str, actor_id: str, *, now: datetime, days: int = LEAF_DAYS) -> bytes:
        """Return the PEM of a client certificate for an admitted actor.

        Args:
            request_pem: its certificate request.
            actor_id: the name that goes into the certificate, whatever the request says.
            now: start of the window, less the tolerated clock skew.
            days: lifetime.

        Raises:
            CertificateError: the request is not one of a P-256 key that signed it.
        """
        public = _requested_key(request_pem)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"urn:shufang:actor:{actor_id}")]
        return self._issue(public, actor_id, names, usage=ExtendedKeyUsageOID.CLIENT_AUTH, now=now, days=days)

    def issue_server(
        self,
        public: ec.EllipticCurvePublicKey,
        name: str,
        *,
        hosts: Sequence[str] = (),
        now: datetime,
        days: int = LEAF_DAYS,
    ) -> bytes:
        """Return the PEM of a server certificate for hub or relay.

        Args:
            public: the server's key.
            name: common name, e.g. ``relay``.
            hosts: names and addresses beside ``localhost`` and ``127.0.0.1``.
            now: start of the window, less the tolerated clock skew.
            days: lifetime.
        """
        names = [_general_name(host) for host in dict.fromkeys(("localhost", "127.0.0.1", *hosts))]
        return self._issue(public, name, names, usage=ExtendedKeyUsageOID.SERVER_AUTH, now=now, days=days)

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        name: str,
        names: Sequence[x509.GeneralName],
        *,
        usage: x509.ObjectIdentifier,
        now: datetime,
        days: int,
    ) -> bytes:
        end = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        if end <= now:
            raise CertificateError("expected an authority whose certificate is still valid; renew it first")
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def create_authority(
    folder: Path, *, organisation: str, now: datetime, passphrase_file: Path | None = None
) -> Authority:
    """Make the authority's key (0600, encrypted if a passphrase is named) and certificate in ``folder``."""
    prepare_folder(folder, passphrase_file)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"{organisation[:48]} TLS authority")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_key_file(folder / "ca.pem", key)
    write_atomic(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(key, certificate)


def load_authority(folder: Path) -> Authority:
    """Open the authority in ``folder``.

    Raises:
        HomeError: no key there, or one that others can read.
    """
    key = load_p256_key(folder / "ca.pem")
    return Authority(key, x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()))


def check_certificate(pem: bytes, ca_pem: bytes, *, now: datetime | None = None) -> timedelta:
    """Return how long a certificate of this authority is still valid.

    Raises:
        CertificateError: another issuer, not yet valid, or expired.
    """
    moment = now or datetime.now(UTC)
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError("expected a certificate issued by the agency's authority") from error
    if moment < certificate.not_valid_before_utc:
        raise CertificateError(
            f"expected a certificate that is valid now, this one starts {certificate.not_valid_before_utc:%Y-%m-%d}"
        )
    if moment >= certificate.not_valid_after_utc:
        raise CertificateError(
            f"expected a certificate that is valid now, this one expired {certificate.not_valid_after_utc:%Y-%m-%d}; "
            "enrol again with a new request"
        )
    return certificate.not_valid_after_utc - moment


def _requested_key(request_pem: str) -> ec.EllipticCurvePublicKey:
    try:
        request = x509.load_pem_x509_csr(request_pem.encode("ascii"))
    except (ValueError, UnicodeEncodeError) as error:
        raise CertificateError("expected a PEM certificate request") from error
    public = request.public_key()
    if not request.is_signature_valid:
        raise CertificateError("expected a certificate request that is signed by its own key")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise CertificateError("expected a certificate request of an ECDSA P-256 key")
    return public


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
