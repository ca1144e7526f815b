"""Documents for tools that others wrote: sigstore bundles, in-toto layout and links, a model signature.

Bundles are derived from envelope and log proof alone. Layout, links and model signature are signed
a second time, by the same actors over what they signed already, in the form those tools
read; their payloads follow from the release, so the verifier makes them again and
compares. They add no claim.

    bundles/<statement>.<actor>.sigstore.json       Sigstore bundle v0.3, public key
    interop/in-toto/root.<registrar>.layout         in-toto 1.0 layout in DSSE, one per registrar
    interop/in-toto/build.<key>.link                operator's link
    interop/in-toto/review.<key>.link               one per reviewer
    interop/certificate.<registrar>.dsse.json       that certificate/registration.pdf is of this release
    interop/model.sig                               OpenSSF model signature of data/product, operator

Source:
    Sigstore bundle v0.3; in-toto specification 1.0 with ITE-5 (DSSE); OpenSSF Model Signing v1.0;
    securesystemslib's key identifiers.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization

from products import canonical
from products.dsse import Envelope
from products.errors import MalformedError
from products.fields import time_text
from products.limits import LIMITS
from products.log import LogProof, leaf_bytes
from products.package import paths

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MODEL_PREDICATE = "https://model_signing/signature/v1.0"
CERTIFICATE_PREDICATE = "urn:shufang:predicate/registration-certificate/v1"
BUILD_STEP, REVIEW_STEP, INSPECTION = "build", "review", "package"


def sigstore_bundle(envelope: Envelope, spki: bytes, proof: LogProof) -> bytes:
    """Return the Sigstore bundle of one signed statement.

    Args:
        envelope: the statement.
        spki: DER key of its signer.
        proof: where it stands in the log.
    """
    checkpoint = proof.note.checkpoint
    return canonical.dumps(
        {
            "mediaType": BUNDLE_TYPE,
            "dsseEnvelope": {
                "payload": _b64(envelope.payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"keyid": envelope.keyid, "sig": _b64(envelope.signature)}],
            },
            "verificationMaterial": {
                "publicKey": {"hint": envelope.keyid},
                "tlogEntries": [
                    {
                        "logIndex": str(proof.index),
                        "logId": {"keyId": _b64(_log_key_id(proof))},
                        "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
                        "canonicalizedBody": _b64(leaf_bytes(envelope.pae, envelope.signature, spki)),
                        "inclusionProof": {
                            "logIndex": str(proof.index),
                            "treeSize": str(checkpoint.size),
                            "rootHash": _b64(checkpoint.root),
                            "hashes": [_b64(item) for item in proof.path],
                            "checkpoint": {"envelope": proof.note.to_bytes().decode("utf-8")},
                        },
                    }
                ],
            },
        }
    )


def _log_key_id(proof: LogProof) -> bytes:
    """The four bytes of the log's note key: the name of a log in bundles."""
    origin = proof.note.checkpoint.origin
    return next((line.key_id for line in proof.note.lines if line.name == origin), b"\0\0\0\0")


# --- keys as securesystemslib names them ----------------------------------------------------


def sslib_key(spki: bytes) -> dict[str, Any]:
    """Return an ECDSA P-256 key as in-toto and TUF tools write it, without its id."""
    public = serialization.load_der_public_key(spki)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {
        "keytype": "ecdsa",
        "scheme": "ecdsa-sha2-nistp256",
        "keyval": {"public": pem.decode("ascii")},
    }


def sslib_keyid(spki: bytes) -> str:
    """Return the id that securesystemslib gives a key: SHA-256 over its canonical JSON (OLPC form)."""
    key = sslib_key(spki)
    # OLPC canonical JSON: sorted keys, no spaces, only quote and backslash escaped; PEM holds neither.
    public = key["keyval"]["public"]
    text = f'{{"keytype":"ecdsa","keyval":{{"public":"{public}"}},"scheme":"ecdsa-sha2-nistp256"}}'
    return hashlib.sha256(text.encode()).hexdigest()


# --- in-toto --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Functionaries:
    """Whose links a layout accepts.

    Attributes:
        operator: DER key of the operator.
        reviewers: DER keys of the reviewers, by actor id.
    """

    operator: bytes
    reviewers: Mapping[str, bytes]


def link(step: str, *, materials: Mapping[str, str], products: Mapping[str, str]) -> bytes:
    """Return the payload of a link.

    Args:
        step: ``build`` or ``review``.
        materials: SHA-256 hex by path of what went in.
        products: SHA-256 hex by path of what came out.
    """
    return canonical.dumps(
        {
            "_type": "link",
            "name": step,
            "command": [],
            "materials": {path: {"sha256": digest} for path, digest in materials.items()},
            "products": {path: {"sha256": digest} for path, digest in products.items()},
            "byproducts": {},
            "environment": {},
        }
    )


def build_link(subjects: Sequence[tuple[str, str]]) -> bytes:
    """Return the operator's link: it made ``data/product/``."""
    made = {path: digest for path, digest in subjects if path.startswith(paths.PRODUCT)}
    return link(BUILD_STEP, materials={}, products=made)


def review_link(subjects: Sequence[tuple[str, str]]) -> bytes:
    """Return a reviewer's link: every file of ``data/`` was seen, and left as it was."""
    files = dict(subjects)
    return link(REVIEW_STEP, materials=files, products=files)


def layout(functionaries: Functionaries, files: Sequence[str], *, expires: datetime, readme: str) -> bytes:
    """Return the payload of the layout that registrars sign.

    Args:
        functionaries: whose links count.
        files: every path below ``data/``.
        expires: end of the product's validity.
        readme: what the layout is of.
    """
    operator, reviewers = sslib_keyid(functionaries.operator), sorted(map(sslib_keyid, _values(functionaries)))
    keys = {sslib_keyid(spki): {"keyid": sslib_keyid(spki), **sslib_key(spki)} for spki in _all(functionaries)}
    product = [path for path in sorted(files) if path.startswith(paths.PRODUCT)]
    require = [["REQUIRE", path] for path in sorted(files)]
    return canonical.dumps(
        {
            "_type": "layout",
            "expires": time_text(expires),
            "readme": readme,
            "keys": keys,
            "steps": [
                {
                    "_type": "step",
                    "name": BUILD_STEP,
                    "expected_command": [],
                    "expected_materials": [["DISALLOW", "*"]],
                    "expected_products": [
                        *[["REQUIRE", path] for path in product],
                        ["ALLOW", f"{paths.PRODUCT}*"],
                        ["DISALLOW", "*"],
                    ],
                    "pubkeys": [operator],
                    "threshold": 1,
                },
                {
                    "_type": "step",
                    "name": REVIEW_STEP,
                    "expected_command": [],
                    "expected_materials": [
                        *require,
                        ["MATCH", f"{paths.PRODUCT}*", "WITH", "PRODUCTS", "FROM", BUILD_STEP],
                        ["DISALLOW", f"{paths.PRODUCT}*"],
                        ["ALLOW", f"{paths.DATA}*"],
                        ["DISALLOW", "*"],
                    ],
                    "expected_products": [
                        ["MATCH", "*", "WITH", "MATERIALS", "FROM", REVIEW_STEP],
                        ["DISALLOW", "*"],
                    ],
                    "pubkeys": reviewers,
                    "threshold": len(reviewers),
                },
            ],
            "inspect": [
                {
                    "_type": "inspection",
                    "name": INSPECTION,
                    "run": ["true"],
                    "expected_materials": [
                        *require,
                        ["MATCH", f"{paths.DATA}*", "WITH", "PRODUCTS", "FROM", REVIEW_STEP],
                        ["DISALLOW", f"{paths.DATA}*"],
                    ],
                    "expected_products": [],
                }
            ],
        }
    )


def readme(product: str, version: str, code: str) -> str:
    """Return the readme of a layout: which release it is of."""
    return f"{product}@{version} {code}"


def _values(functionaries: Functionaries) -> list[bytes]:
    return list(functionaries.reviewers.values())


def _all(functionaries: Functionaries) -> list[bytes]:
    return [functionaries.operator, *_values(functionaries)]


def layout_path(registrar: str) -> str:
    """Return the path of a registrar's layout."""
    return f"{paths.IN_TOTO}root.{registrar}.layout"


def link_path(step: str, spki: bytes) -> str:
    """Return the path of a link, named by the first eight digits of the key's id."""
    return f"{paths.IN_TOTO}{step}.{sslib_keyid(spki)[:8]}.link"


def certificate_path(registrar: str) -> str:
    """Return the path of a registrar's signature on the certificate's page."""
    return f"interop/certificate.{registrar}{paths.ENVELOPE_SUFFIX}"


def certificate_statement(pdf_sha256: str, release_sha256: str) -> bytes:
    """Return the statement by which registrars vouch for the certificate's page.

    Args:
        pdf_sha256: digest of ``certificate/registration.pdf``.
        release_sha256: name of the release it was made from.
    """
    return canonical.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": paths.CERTIFICATE_PDF, "digest": {"sha256": pdf_sha256}}],
            "predicateType": CERTIFICATE_PREDICATE,
            "predicate": {"release_sha256": release_sha256},
        }
    )


# --- OpenSSF model signature ----------------------------------------------------------------


def model_statement(subjects: Sequence[tuple[str, str]]) -> bytes:
    """Return the statement of a model signature over ``data/product``.

    Args:
        subjects: (path, SHA-256 hex) of every file below ``data/``.
    """
    resources = sorted(
        (path.removeprefix(paths.PRODUCT), digest) for path, digest in subjects if path.startswith(paths.PRODUCT)
    )
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in resources)).hexdigest()
    return canonical.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "product", "digest": {"sha256": whole}}],
            "predicateType": MODEL_PREDICATE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                    "ignore_paths": [],
                },
                "resources": [{"algorithm": "sha256", "digest": digest, "name": name} for name, digest in resources],
            },
        }
    )


def model_signature(envelope: Envelope, spki: bytes) -> bytes:
    """Return the file ``model.sig`` around the operator's envelope of a model statement."""
    hint = hashlib.sha256(sslib_key(spki)["keyval"]["public"].encode()).hexdigest()
    return canonical.dumps(
        {
            "mediaType": BUNDLE_TYPE,
            "dsseEnvelope": {
                "payload": _b64(envelope.payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"keyid": envelope.keyid, "sig": _b64(envelope.signature)}],
            },
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        }
    )


def require_file(file: bytes, spki: bytes, payload: bytes) -> None:
    """Accept one of the files below ``interop/in-toto/``: this payload, signed with this key.

    Raises:
        MalformedError: another payload, key id or spelling.
        BadSignatureError: the signature does not verify.
    """
    envelope = Envelope.from_bytes(file)
    if envelope.payload != payload or envelope.keyid != sslib_keyid(spki):
        raise MalformedError("expected what follows from the release, under the key of its signer")
    envelope.verify_bytes(spki)


def require_model_signature(file: bytes, spki: bytes, payload: bytes) -> None:
    """Accept ``model.sig``: a bundle around the operator's signature on this payload.

    Raises:
        MalformedError: another payload, key or spelling.
        BadSignatureError: the signature does not verify.
    """
    inner = canonical.loads(file, size_max=LIMITS.envelope_bytes_max).get("dsseEnvelope")
    if not isinstance(inner, dict):
        raise MalformedError("expected a DSSE envelope in the model signature")
    envelope = canonical.dumps(inner)
    require_file(envelope, spki, payload)
    if file != model_signature(Envelope.from_bytes(envelope), spki):
        raise MalformedError("expected the one spelling of a model signature")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
