"""Enrolment: how an actor shows its keys to the agency, and what it gets back.

An actor makes its keys at home and writes a *bundle*: names, public keys and a certificate
request, signed by its own statement key (proof that it holds it; the certificate request
proves the TLS key in the same way). Only public halves travel. The agency compares the
bundle's digest with what the department's officer reads out, admits the actor by publishing
new trust data and returns a *response*: the TLS certificate and the agency-signed trust
files. The response carries no signature of its own: the files in it are verified from the
root that was pinned at ``init``.

A bundle that replaces earlier keys is endorsed by the earlier statement key.

File forms: ``enrolment.json`` is ``{"bundle": envelope, "endorsement": envelope or null}``;
``admission.json`` is an ``Admission`` in canonical JSON.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from nodes.contract import canonical
from nodes.contract.errors import BadSignatureError, MalformedError
from nodes.contract.messages import Message, Name, Part, Text, Time, parse
from nodes.contract.signing import Envelope, SigningKey, VerifyKey, sign
from nodes.contract.trust import Role

TRUST_BYTES_MAX = 2 * 1024 * 1024
"""Largest set of trust files that is accepted, in bytes."""

_TRUST_FILE = re.compile(
    r"^(metadata/(\d{1,6}\.root|timestamp|\d{1,6}\.snapshot|\d{1,6}\.targets)\.json|targets/[0-9a-f]{64}\.[a-z0-9-]{1,40}\.(json|txt|crt))$"
)


class Enrolment(Message):
    """The bundle of public keys that an actor shows to the agency.

    Attributes:
        id: actor id that it asks for.
        organisation: body it belongs to.
        title_zh, title_en: names for people.
        roles: what it asks to sign as.
        statement_spki: base64 of the DER key of its signatures (ECDSA P-256).
        sealing_key: base64 of its 32-byte X25519 key; empty if it receives nothing sealed.
        hub_spki: base64 of the DER key by which the hub will know the node; empty for others.
        tls_csr: PEM of the request for a TLS client certificate; empty if it dials nobody.
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
    created_at: Time


class TrustFile(Part):
    """One file of the agency's trust repository.

    Attributes:
        name: ``metadata/…`` or ``targets/…`` as in the repository.
        content: base64 of its bytes.
    """

    name: str
    content: str


class Admission(Message):
    """What the agency hands back to an admitted actor.

    Attributes:
        id: the actor.
        tls_certificate: PEM of its client certificate; empty if it asked for none.
        ca_certificate: PEM of the agency's TLS authority.
        trust: files of the trust repository that name the actor.
    """

    payload_type: ClassVar[str] = "application/vnd.shufang.admission.v1+json"

    version: Literal[1] = 1
    id: Name
    tls_certificate: str = ""
    ca_certificate: str
    trust: Annotated[tuple[TrustFile, ...], Field(min_length=1, max_length=64, strict=False)]


def write_enrolment(enrolment: Enrolment, key: SigningKey, *, earlier: SigningKey | None = None) -> bytes:
    """Sign the bundle and return the bytes of ``enrolment.json``.

    Args:
        enrolment: the bundle; its ``statement_spki`` is that of ``key``.
        key: the key that the bundle names.
        earlier: the statement key that the new one replaces.
    """
    payload = enrolment.to_payload()
    bundle = sign(key, enrolment.payload_type, payload)
    endorsement = sign(earlier, enrolment.payload_type, payload) if earlier else None
    return canonical.dumps(
        {
            "bundle": canonical.loads(bundle.to_bytes()),
            "endorsement": canonical.loads(endorsement.to_bytes()) if endorsement else None,
        }
    )


def read_enrolment(data: bytes) -> tuple[Enrolment, Envelope | None]:
    """Read ``enrolment.json`` and check that the bundle is signed by the key it names.

    Returns:
        The bundle, and the endorsement whose key the caller compares with the earlier one.

    Raises:
        MalformedError: not such a file.
        BadSignatureError: the bundle is not signed by its own key, or the endorsement is of other bytes.
    """
    value = canonical.loads(data)
    if set(value) != {"bundle", "endorsement"} or not isinstance(value["bundle"], dict):
        raise MalformedError("expected an enrolment file with bundle and endorsement")
    bundle = Envelope.from_bytes(canonical.dumps(value["bundle"]))
    enrolment = parse(Enrolment, bundle.payload)
    bundle.open(VerifyKey(decode_base64(enrolment.statement_spki)), Enrolment.payload_type)
    endorsement = value["endorsement"]
    if endorsement is None:
        return enrolment, None
    envelope = Envelope.from_bytes(canonical.dumps(endorsement))
    if envelope.payload != bundle.payload or envelope.payload_type != bundle.payload_type:
        raise BadSignatureError("expected an endorsement of this very bundle")
    return enrolment, envelope


def write_trust(files: Mapping[str, bytes]) -> tuple[TrustFile, ...]:
    """Return trust files for an ``Admission`` or a ``trust.update``, sorted by name.

    Raises:
        MalformedError: a name that the repository does not have, or too many bytes.
    """
    _check_trust(files)
    return tuple(
        TrustFile(name=name, content=base64.b64encode(data).decode("ascii")) for name, data in sorted(files.items())
    )


def read_trust(files: tuple[TrustFile, ...]) -> dict[str, bytes]:
    """Return the bytes of trust files by name; nothing in them is verified yet.

    Raises:
        MalformedError: a name that the repository does not have, or twice; bad base64; too many bytes.
    """
    result = {file.name: decode_base64(file.content) for file in files}
    if len(result) != len(files):
        raise MalformedError("expected each trust file once")
    _check_trust(result)
    return result


def read_admission(data: bytes) -> Admission:
    """Read ``admission.json``; the trust files in it are still to be verified from the pinned root.

    Raises:
        MalformedError: not such a file.
    """
    return parse(Admission, data)


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard base64 text.

    Raises:
        MalformedError: not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("expected base64") from error


def _check_trust(files: Mapping[str, bytes]) -> None:
    wrong = [name for name in files if not _TRUST_FILE.match(name)]
    if wrong:
        raise MalformedError(f"expected file names of a trust repository, got {len(wrong)} others")
    if sum(map(len, files.values())) > TRUST_BYTES_MAX:
        raise MalformedError(f"expected at most {TRUST_BYTES_MAX} bytes of trust files")
