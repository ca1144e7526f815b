"""Second signatures for tools of others: the same actors, over what follows from the release.

Reviewers sign an in-toto link with their review, registrars an in-toto layout (and the page of
the certificate) with their release, the operator its link and the model signature when it packs.
Each is made in its signer's own process and checked by the verifier; none adds a claim.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from factory.files import write_atomic
from factory.identity import Identity
from factory.trust import Trust
from nodes.contract import gm
from nodes.contract.signing import Envelope, SigningKey, pae
from nodes.contract.statement import PAYLOAD_TYPE
from nodes.contract.trust import Actor
from products import dsse
from products.package import interop, paths


def sign_second(key: SigningKey, payload: bytes) -> bytes:
    """Return an envelope over ``payload`` under the key id that in-toto tools look for."""
    spki = key.public.spki
    signature = key.sign(pae(PAYLOAD_TYPE, payload))
    return Envelope(PAYLOAD_TYPE, payload, interop.sslib_keyid(spki), signature).to_bytes()


def own_sm2(signer: Identity, trust: Trust, envelopes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return second signatures, by path in the package, over those envelopes that the signer has signed.

    Args:
        signer: at home; without an SM2 key nothing is signed.
        trust: names the signer's keys, earlier ones too.
        envelopes: by ``<statement>.<actor>``; others' are left alone.
    """
    private = signer.sm2_key
    if private is None:
        return {}
    keys = {actor.verify_key.keyid: actor.verify_key for actor in trust.actors.actors if actor.id == signer.id}
    found = {}
    for stem, data in sorted(envelopes.items()):
        envelope = Envelope.from_bytes(data)
        if envelope.keyid in keys:
            envelope.open(keys[envelope.keyid], PAYLOAD_TYPE)
            found[paths.sm2_path(stem)] = gm.countersign(private, envelope)
    return found


def write_own_sm2(folder: Path, signer: Identity, trust: Trust, envelopes: Mapping[str, bytes]) -> None:
    """Write the signer's second signatures below ``sm2/`` of a folder; nothing without an SM2 key."""
    for path, data in own_sm2(signer, trust, envelopes).items():
        (folder / "sm2").mkdir(exist_ok=True)
        write_atomic(folder / "sm2" / path.removeprefix(paths.INTEROP), data)


def read_sm2(folder: Path) -> dict[str, bytes]:
    """Return the second signatures below ``sm2/`` of a folder by path in the package."""
    found = sorted((folder / "sm2").glob(f"*{paths.SM2_SUFFIX}"))
    return {paths.INTEROP + path.name: path.read_bytes() for path in found}


def layout_of(
    release: Mapping[str, Any], files: Sequence[str], *, operator: Actor, reviewers: Sequence[Actor]
) -> bytes:
    """Return the payload of the layout that registrars sign.

    Args:
        release: predicate of the release.
        files: every path below ``data/``.
        operator: as the trust data has it.
        reviewers: who reviewed.
    """
    product = release["product"]
    return interop.layout(
        interop.Functionaries(_spki(operator), {actor.id: _spki(actor) for actor in reviewers}),
        files,
        expires=datetime.fromisoformat(release["validity"]["not_after"]),
        readme=interop.readme(product["id"], product["version"], release["registration"]["code"]),
    )


def operators_files(key: SigningKey, form: str, subjects: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Return the operator's link and, for a model, its model signature, by path in the package."""
    spki = key.public.spki
    found = {interop.link_path(interop.BUILD_STEP, spki): sign_second(key, interop.build_link(subjects))}
    if form == "model":
        envelope = dsse.Envelope.from_bytes(sign_second(key, interop.model_statement(subjects)))
        found[paths.MODEL_SIGNATURE] = interop.model_signature(envelope, spki)
    return found


def reviewers_files(
    links: Mapping[str, bytes], trust: Trust, subjects: Sequence[tuple[str, str]], *, now: datetime
) -> dict[str, bytes]:
    """Return the reviewers' links by path in the package, once they are checked.

    Args:
        links: by actor id.
        trust: verified trust data.
        subjects: (path, SHA-256 hex) of every file below ``data/``.
        now: clock.

    Raises:
        ProductError: a link of another product, or one that does not verify.
    """
    found = {}
    for reviewer, data in sorted(links.items()):
        spki = _spki(trust.actors.find(reviewer, role="reviewer", moment=now))
        interop.require_file(data, spki, interop.review_link(subjects))
        found[interop.link_path(interop.REVIEW_STEP, spki)] = data
    return found


def _spki(actor: Actor) -> bytes:
    return base64.b64decode(actor.statement_spki)
