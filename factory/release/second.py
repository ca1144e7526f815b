"""Second signatures for tools of others: the same actors, over what follows from the release.

Reviewers sign an in-toto link with their review, registrars an in-toto layout (and the page of
the certificate) with their release, the operator its link and the model signature when it packs.
Each is made in its signer's own process and checked by the verifier; none adds a claim.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from factory.trust import Trust
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
