"""Step 7: the version before is no invention: its release stands in the log, signed by two registrars.

The package carries the registrars' envelopes of the earlier release with their log proofs. They are
checked like every other signature; their payload has to be the one that ``previous`` names.
"""

from collections.abc import Iterator
from typing import cast

from products import statements
from products.dsse import Envelope
from products.errors import MalformedError, ProductError
from products.forms import RELEASE
from products.log import LogProof, leaf_bytes, verify_checkpoint
from products.package import paths
from products.repository import TrustData
from products.statements import Release
from products.verification.facts import Facts

REGISTRARS = 2
"""How many registrars vouch for the earlier release."""


def previous_problems(facts: Facts, trust: TrustData) -> Iterator[str]:
    """Check the earlier release that this one names, and that there is none where it names none."""
    files, previous = facts.files.below(paths.PREVIOUS), facts.release.product.previous
    if previous is None:
        yield from (f"{path}: the release names no version before" for path in sorted(files))
        return
    signers = set()
    envelopes = [path for path in sorted(files) if path.endswith(paths.ENVELOPE_SUFFIX)]
    for path in envelopes:
        proof = path.removesuffix(paths.ENVELOPE_SUFFIX) + paths.PROOF_SUFFIX
        try:
            signers.add(_registrar(facts, trust, files[path], files.get(proof, b"")))
        except ProductError as error:
            yield f"{path}: {error}"
    if len(files) != 2 * len(envelopes):
        yield f"{paths.PREVIOUS}: expected envelopes with one log proof each"
    if len(signers) < REGISTRARS:
        yield f"expected the release of {previous.version} signed by {REGISTRARS} registrars, got {len(signers)}"


def _registrar(facts: Facts, trust: TrustData, data: bytes, proof_bytes: bytes) -> str:
    """Return which registrar signed the earlier release.

    Raises:
        ProductError: nobody that counts, another statement, or not in the log before this release.
    """
    envelope, proof = Envelope.from_bytes(data), LogProof.from_bytes(proof_bytes)
    actor = trust.actors.by_keyid().get(envelope.keyid)
    if actor is None or "registrar" not in actor.roles:
        raise MalformedError("expected the signature of a registrar")
    envelope.verify(actor.spki)
    witnessed = verify_checkpoint(proof.note, trust.tlog_policy)
    proof.verify(leaf_bytes(envelope.pae, envelope.signature, actor.spki))
    if not actor.is_valid_at(witnessed.at):
        raise MalformedError(f"the key of {actor.id} did not count when it signed")
    product = facts.release.product
    if product.previous is None or envelope.payload_sha256 != product.previous.sha256:
        raise MalformedError("not the release that this one names as the version before")
    earlier = statements.read(envelope.payload)
    if earlier.predicate_type != RELEASE:
        raise MalformedError("expected a release statement")
    before = cast(Release, earlier.predicate)
    if (before.product.id, before.product.version) != (product.id, product.previous.version):
        raise MalformedError("expected an earlier version of the same product")
    origin, first = proof.note.checkpoint.origin, min(facts.release_joint.signed, key=lambda item: item.at)
    same_log = [item.index for item in facts.release_joint.signed if item.origin == origin]
    if before.released_at > facts.release.released_at or (same_log and proof.index >= min(same_log)):
        raise MalformedError(f"expected a release that was logged before this one, which was by {first.at:%Y-%m-%d}")
    return actor.id
